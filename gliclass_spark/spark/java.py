"""Java for Spark: a check of the installed version, runnable as a module before anything is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

MINIMUM_JAVA = 17
_FIX = (
    f"install Java {MINIMUM_JAVA} or 21 (Debian and Ubuntu: apt-get install openjdk-17-jre-headless; "
    "macOS: brew install openjdk@17) and point JAVA_HOME to it"
)


def problem() -> str | None:
    """Return what is wrong with this machine's Java and how to fix it, or None if Spark can use it."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java")
    if java is None:
        return f"Spark needs Java, and there is none on the PATH; {_FIX}"
    try:
        output = subprocess.run([java, "-version"], capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError) as error:
        where = f"JAVA_HOME is {home!r}, but" if home else "there is a java on the PATH, but"
        return f"{where} {java} does not run ({error}); {_FIX}"
    match = re.search(r'version "(?:1\.)?(\d+)', output.stderr + output.stdout)
    if match is None or int(match[1]) < MINIMUM_JAVA:
        version = match[1] if match else "an unknown version"
        return f"Spark needs Java {MINIMUM_JAVA} or newer, but {java} is {version}; {_FIX}"
    return None


if __name__ == "__main__":
    if (message := problem()) is not None:
        sys.exit(f"error: {message}")
