"""File names of run ids."""

from __future__ import annotations

import itertools
from pathlib import Path

from gliclass_spark.runs.file_names import file_name

RUN_IDS = [
    *("scheduled__2026-11-23T02:00:00+00:00", "scheduled__2026-11-23T02-00-00-00-00", "scheduled__2026-11-23T02%3A00"),
    *("run-1", "run 1", "run/1", "run\\1", "run\n1", "run\0", "RUN-1", "läuf-1"),
    *("", ".", "..", "%2E", "../run-1", file_name("..")),
    *("a" * 200, "a" * 201, "a" * 250, "a" * 249 + "b", "ä" * 250, file_name("a" * 250)),
]


def test_every_run_id_has_another_name_that_stays_in_its_folder(tmp_path: Path) -> None:
    for run_id in RUN_IDS:
        page = tmp_path / f"{file_name(run_id)}.html"
        assert page.resolve().parent == tmp_path
        page.write_text(run_id)
    for first, second in itertools.combinations(RUN_IDS, 2):
        assert file_name(first) != file_name(second), (first, second)
    assert file_name("20261123T020000Z-1a2b") == "20261123T020000Z-1a2b"
