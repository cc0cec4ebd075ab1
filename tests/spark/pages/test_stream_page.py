"""docs/howto/stream.md: its query is killed between two commits, and labels every row once when it runs again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable, write_deltalake
from docs_blocks import DOCS, blocks
from pandas import DataFrame
from quick_spark import QUICK_SPARK

pytestmark = pytest.mark.long

BATCHES = 8  # of a file each


@pytest.mark.timeout(900)
@pytest.mark.usefixtures("quick_java")
def test_a_stream_that_is_killed_labels_every_row_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    documents, query, shown, output = (
        block for block in blocks(DOCS / "howto" / "stream.md") if block.language in ("python", "text")
    )
    assert query.title is not None
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spark-defaults.conf").write_text("\n".join(f"{key} {value}" for key, value in QUICK_SPARK.items()))
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    exec(documents.text, {})  # noqa: S102 - our own documentation
    for number in range(DeltaTable("documents").version() + 1, BATCHES):
        rows = {"id": [f"n{number}.{row}" for row in range(3)], "body": ["A match of two teams."] * 3}
        write_deltalake("documents", DataFrame(rows), mode="append")
    Path(query.title).write_text(query.text)

    command = [sys.executable, query.title]
    second_commit, log = tmp_path / "labelled" / "_delta_log" / f"{1:020}.json", tmp_path / "query.log"
    with log.open("wb") as output_file:
        driver = subprocess.Popen(command, stdout=output_file, stderr=output_file, start_new_session=True)
        while not second_commit.exists() and driver.poll() is None:
            time.sleep(0.005)
        os.killpg(driver.pid, signal.SIGKILL)
    assert driver.wait() == -signal.SIGKILL, log.read_text()
    committed = ids()
    assert 0 < len(committed) < len(ids("documents"))

    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert sorted(ids()) == sorted(ids("documents"))
    exec(shown.text, {})  # noqa: S102 - our own documentation
    assert capsys.readouterr().out.splitlines()[:3] == output.text.splitlines()


def ids(table: str = "labelled") -> list[str]:
    """The ids of the table's rows."""
    return [str(value) for value in DeltaTable(table).to_pyarrow_table(columns=["id"])["id"].to_pylist()]
