"""Documentation pages: the code blocks of each page run in order and print what the page shows."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docs_blocks import DOCS, RUN_PAGES, blocks
from pyspark.sql import SparkSession

from gliclass_spark.cli.app import main

pytestmark = pytest.mark.long

_COMMAND = re.compile(r"gliclass-spark (.+)")
_DECIMALS = re.compile(r"\d+\.\d+")


@pytest.fixture
def folder(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Change the working directory of this process and of Spark's JVM to an empty folder."""
    java: Any = spark._jvm
    files = java.org.apache.hadoop.fs.FileSystem.get(spark._jsc.hadoopConfiguration())
    working_directory = files.getWorkingDirectory()
    files.setWorkingDirectory(java.org.apache.hadoop.fs.Path(str(tmp_path)))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    files.setWorkingDirectory(working_directory)


@pytest.mark.parametrize("page", RUN_PAGES)
def test_the_code_of_a_page_runs(
    page: str,
    folder: Path,
    registry_database: Path,
    tiny_bi_encoder: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    shutil.copy(registry_database, folder)
    shutil.copytree(tiny_bi_encoder, folder / "candidate")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    namespace: dict[str, Any] = {}
    shown = ""
    for block in blocks(DOCS / page):
        if block.title:
            Path(block.title).write_text(block.text)
        elif block.language == "python":
            exec(block.text, namespace)  # noqa: S102 - our own documentation
        elif block.language == "bash":
            for line in block.text.splitlines():
                command = _COMMAND.fullmatch(line)
                assert command, line
                assert main(shlex.split(command[1])) == 0, f"{line}\n{capsys.readouterr().err}"
        elif block.language == "text":
            for line in block.text.splitlines():
                assert plain(line) in shown, f"{line}\n\nshown:\n{shown}"
        printed = capsys.readouterr()
        shown = plain(printed.out) if block.language in ("python", "bash") else shown


def plain(text: str) -> str:
    """Return the text without line breaks and decimals, which differ from machine to machine."""
    return " ".join(_DECIMALS.sub("#", text).split())
