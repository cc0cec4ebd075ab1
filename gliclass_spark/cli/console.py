"""Where the commands write for people."""

from rich.console import Console

# A notebook that calls main() gets what a file would hold: rich asks it for ipywidgets, and the kernel's output
# calls itself a terminal, but keeps every frame of a line that changes.
console = Console(force_jupyter=False, force_terminal=False if Console().is_jupyter else None)
