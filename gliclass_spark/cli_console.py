"""Where the commands write for people."""

from rich.console import Console

# A notebook that calls main() shows what a file would hold: for spinners and colours rich asks it for ipywidgets.
console = Console(force_jupyter=False)
