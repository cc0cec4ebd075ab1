"""The gate: what a candidate must meet to become the champion, and the statistics behind it."""
