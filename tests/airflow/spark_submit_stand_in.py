"""A program in the place of spark-submit, for tests of what Airflow makes of its exit code and of `runs`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]

_SPARK_SUBMIT = """#!{python}
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from written_runs import manifest, run_manifests, write_runs
Path({folder!r}, "arguments").write_text("\\n".join(sys.argv[1:]))
if rows := {rows}:
    write_runs(Path({folder!r}), rows)
sys.exit({code})
"""


def fake_spark_submit(folder: Path, monkeypatch: pytest.MonkeyPatch, code: int, rows: str = "[]") -> None:
    """Replace spark-submit by a program that appends these rows to `runs`, and exits with the code."""
    program = folder / "bin" / "spark-submit"
    program.parent.mkdir(exist_ok=True)
    variables = {"python": sys.executable, "tests": str(TESTS), "folder": str(folder)}
    program.write_text(_SPARK_SUBMIT.format(rows=rows, code=code, **variables))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/bin:/usr/bin")
