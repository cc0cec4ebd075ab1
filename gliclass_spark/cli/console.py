"""The console that commands print to."""

from rich.console import Console

# In a notebook rich would need ipywidgets, and a progress bar would print every frame: treat the cell as a file.
console = Console(force_jupyter=False, force_terminal=False if Console().is_jupyter else None)
