"""Charts of the reports, by kind: each function returns a matplotlib figure whose colours are the page's variables."""
