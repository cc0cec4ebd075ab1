"""Virtual environments of their own for tests: made by uv, whose cache makes them in seconds."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[1]
UV = Path(sys.executable).with_name("uv")


class CommandError(Exception):
    """A command exited with an error. The message has the end of what it printed."""


def run(command: list[str], folder: Path, **env: str) -> str:
    """Run a command in the folder, without this process's Python settings, and return what it prints."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env={**inherited, **env}, timeout=900, check=False
    )
    if done.returncode:
        raise CommandError(f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def new_environment(folder: Path) -> str:
    """Make an environment in `folder` that has no packages, and return the path of its Python."""
    run([str(UV), "venv", "--quiet", "--python", sys.executable, str(folder)], folder.parent)
    return str(folder / "bin" / "python")


def install_over_this_environment(folder: Path, requirements: Path) -> str:
    """Make an environment with the pinned requirements in front of this one's packages; return its Python's path."""
    python = new_environment(folder)
    install = [str(UV), "pip", "install", "--quiet", "--no-deps", "--python", python]
    run([*install, "--requirement", str(requirements)], folder.parent)
    below = sysconfig.get_path("purelib")
    [packages] = folder.glob("lib/python*/site-packages")
    # addsitedir also reads that folder's own .pth files, by which the checkout is installed.
    (packages / "below.pth").write_text(f"import site; site.addsitedir({below!r})\n")
    return python
