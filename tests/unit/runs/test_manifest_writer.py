"""Rows appended to `runs` without Spark: exact, once, in the order of the claims, and compacted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from deltalake import DeltaTable
from written_runs import manifest, write_runs

from gliclass_spark.errors import TableError
from gliclass_spark.runs import manifest_writer
from gliclass_spark.runs.history import recent_rows
from gliclass_spark.runs.manifest import RUNNING, Manifest, VersionRange
from gliclass_spark.runs.manifest_writer import append_manifests


@pytest.fixture
def runs(tmp_path: Path) -> str:
    """The path of a `runs` table in which `tag` has run once, with sequence number 1."""
    write_runs(tmp_path, [manifest("tag")])
    return str(tmp_path / "lake" / "runs")


def claim(sequence: int, **facts: object) -> Manifest:
    return replace(manifest("tag", "run-2", status=RUNNING), sequence=sequence, **facts)  # type: ignore[arg-type]


def version(runs: str) -> int:
    return DeltaTable(runs).version()


def test_a_row_is_read_as_it_was_written(runs: str) -> None:
    row = replace(
        manifest("tag", "run-2"),
        sequence=2,
        message="naïve “quotes”; \n two lines",
        full_scan=True,
        errors={"EMPTY_TEXT": 2},
        score_histograms={"spam": [0, 3, 1]},
        step_seconds={"read": 0.125},
        inputs={"source": VersionRange("id", 3, 2**40)},
        commits={"source": "abc"},
        texts_per_s=1.5,
    )
    assert append_manifests(runs, [row], claim=False)
    [read] = [each for each in recent_rows(runs, row.pipeline) if each.run_id == "run-2"]
    assert read == row


def test_one_claim_of_a_number_is_appended(runs: str) -> None:
    assert append_manifests(runs, [claim(2)], claim=True)
    before = version(runs)
    assert not append_manifests(runs, [claim(2)], claim=True)
    assert version(runs) == before


def test_an_end_does_not_follow_a_later_claim(runs: str) -> None:
    assert append_manifests(runs, [claim(2)], claim=True)
    assert append_manifests(runs, [claim(3)], claim=True)
    assert not append_manifests(runs, [claim(2, status="succeeded")], claim=False)
    assert append_manifests(runs, [claim(3, status="succeeded")], claim=False)
    assert not append_manifests(runs, [claim(3, status="failed")], claim=False)


@pytest.fixture
def claim_meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[Manifest], None]:
    """Append a claim of another process after the next writer has opened the table."""

    def claim_meanwhile(rival: Manifest) -> None:
        opened = manifest_writer.delta_table

        def overtaken(path: str) -> DeltaTable:
            table = opened(path)
            monkeypatch.undo()
            assert append_manifests(path, [rival], claim=True)
            return table

        monkeypatch.setattr(manifest_writer, "delta_table", overtaken)

    return claim_meanwhile


def test_of_two_claims_at_once_one_is_appended(runs: str, claim_meanwhile: Callable[[Manifest], None]) -> None:
    claim_meanwhile(claim(2, run_id="run-3"))
    assert not append_manifests(runs, [claim(2)], claim=True)
    assert [row.run_id for row in recent_rows(runs, "mail") if row.sequence == 2] == ["run-3"]


def test_a_claim_of_another_job_at_once_is_no_conflict(runs: str, claim_meanwhile: Callable[[Manifest], None]) -> None:
    claim_meanwhile(claim(2, job="filter"))
    assert append_manifests(runs, [claim(2)], claim=True)
    assert sorted(row.job for row in recent_rows(runs, "mail") if row.sequence == 2) == ["filter", "tag"]


def test_many_small_files_are_compacted(runs: str) -> None:
    files = []
    for sequence in range(2, 62):
        assert append_manifests(runs, [claim(sequence)], claim=True)
        files.append(len(DeltaTable(runs).file_uris()))
    assert max(files) < 51
    assert min(files[-15:]) < 15
    assert [row.sequence for row in recent_rows(runs, "mail")] == [61, *range(60, 1, -1), 1]


def test_a_table_with_a_feature_that_delta_rs_lacks_is_an_error(runs: str) -> None:
    first = Path(runs, "_delta_log", f"{0:020}.json")
    actions = [json.loads(line) for line in first.read_text().splitlines()]
    for action in actions:
        if "protocol" in action:
            action["protocol"] = {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["futureFeature"]}
    first.write_text("".join(json.dumps(action) + "\n" for action in actions))
    before = version(runs)
    with pytest.raises(TableError, match="futureFeature"):
        append_manifests(runs, [claim(2)], claim=True)
    assert version(runs) == before
