"""Is there a Java that Spark can use? Run as a module, before anything is installed, it only says so."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

OLDEST_JAVA = 17
_MEND = (
    f"install Java {OLDEST_JAVA} or 21 (Debian and Ubuntu: apt-get install openjdk-17-jre-headless; "
    "macOS: brew install openjdk@17) and point JAVA_HOME to it"
)


def problem() -> str | None:
    """What is wrong with this machine's Java, and how to mend it; None if Spark can use it."""
    home = os.environ.get("JAVA_HOME")
    java = str(Path(home, "bin", "java")) if home else shutil.which("java")
    if java is None:
        return f"Spark needs Java, and there is none on the PATH; {_MEND}"
    try:
        answer = subprocess.run([java, "-version"], capture_output=True, text=True, check=True)  # noqa: S603
    except (OSError, subprocess.CalledProcessError) as error:
        where = f"JAVA_HOME is {home!r}, but" if home else "there is a java on the PATH, but"
        return f"{where} {java} does not run ({error}); {_MEND}"
    version = re.search(r'version "(?:1\.)?(\d+)', answer.stderr + answer.stdout)
    if version is None or int(version[1]) < OLDEST_JAVA:
        found = version[1] if version else "an unknown version"
        return f"Spark needs Java {OLDEST_JAVA} or newer, but {java} is {found}; {_MEND}"
    return None


if __name__ == "__main__":
    found = problem()
    if found:
        sys.exit(f"error: {found}")
