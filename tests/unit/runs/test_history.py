"""Runs read without Spark: their manifests, their documents, and checks of their counts."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import write_deltalake
from written_runs import START, manifest, pipeline, run_manifests, write_runs

from gliclass_spark.errors import ManifestError, TableError
from gliclass_spark.report.run.run_report import run_report
from gliclass_spark.runs.delta_reader import delta_table, query
from gliclass_spark.runs.history import claimed_destinations, read_manifests, select_run
from gliclass_spark.runs.manifest import Manifest, VersionRange, check_run


def write_documents(folder: Path, table: str, **columns: list[Any]) -> None:
    count = len(columns["doc_id"])
    defaults = {
        "content_hash": pa.array(columns["doc_id"], pa.string()),
        "scores": pa.array([[("spam", 0.5)]] * count, pa.map_(pa.string(), pa.float32())),
        "labels": pa.array([["spam"]] * count, pa.list_(pa.string())),
        "error": pa.array([None] * count, pa.struct([("code", pa.string()), ("message", pa.string())])),
    }
    write_deltalake(str(folder / "lake" / table), pa.table({**defaults, **columns}))


def test_manifests_are_read_as_written_latest_first(tmp_path: Path) -> None:
    written = [
        *run_manifests(),
        manifest("tag", "run-2", "failed", message="no", score_histograms={"spam": [1, 2]}, padding_share=0.25),
    ]
    write_runs(tmp_path, written)
    assert read_manifests(pipeline(tmp_path)) == sorted(written, key=lambda row: row.started_at, reverse=True)


def test_a_row_of_version_0_1_has_its_full_scan_in_the_column_whole() -> None:
    row = {name: value for name, value in asdict(manifest("tag")).items() if name != "full_scan"}
    for full_scan in (True, False):
        assert Manifest.from_row({**row, "whole": full_scan}).full_scan is full_scan
        assert Manifest.from_row({**row, "whole": full_scan, "full_scan": None}).full_scan is full_scan
        assert Manifest.from_row({**row, "whole": None, "full_scan": full_scan}).full_scan is full_scan


def test_the_last_attempt_of_a_repeated_run_is_selected(tmp_path: Path) -> None:
    again = manifest("tag", "run-2", "running", sequence=3, started_at=START + timedelta(days=2, hours=1))
    write_runs(tmp_path, [*run_manifests(1), *run_manifests(2), again])
    selected, earlier = select_run(read_manifests(pipeline(tmp_path)), "run-2")
    assert {row.job: (row.sequence, row.status) for row in selected}["tag"] == (3, "running")
    assert earlier == run_manifests(1)
    assert select_run(read_manifests(pipeline(tmp_path)), None)[0][0].run_id == "run-2"
    with pytest.raises(TableError, match="there is no run 'run-7' among the recent ones; the latest are run-2, run"):
        select_run(read_manifests(pipeline(tmp_path)), "run-7")


def test_a_pipeline_without_runs_raises(tmp_path: Path) -> None:
    with pytest.raises(TableError, match=r"lake/runs: pipeline .mail. has not run yet; run it first"):
        read_manifests(pipeline(tmp_path))
    write_runs(tmp_path, [replace(row, pipeline="other") for row in run_manifests()])
    with pytest.raises(TableError, match=r"pipeline 'mail' has not run yet; run it first"):
        read_manifests(pipeline(tmp_path))


def test_a_page_shows_documents_of_each_outcome_also_if_its_name_has_a_quote(tmp_path: Path) -> None:
    write_runs(tmp_path, run_manifests())
    write_documents(tmp_path, "kept", doc_id=["a", "b"], body=["a plain text", None])
    reasons = ["it's spam", "another"]
    write_documents(tmp_path, "rejected", doc_id=["c", "d"], body=[b"bytes \xff of spam", b"not this"], reason=reasons)
    write_documents(tmp_path, "unrouted", doc_id=["a", "b"], body=["a plain text", None])
    html = run_report(pipeline(tmp_path), None).html
    assert "a plain text" in html
    assert "bytes \N{REPLACEMENT CHARACTER} of spam" in html
    assert "not this" not in html


def test_a_version_that_cannot_be_read_is_replaced_by_the_latest(tmp_path: Path) -> None:
    filtered = run_manifests()[1]
    write_runs(tmp_path, [replace(filtered, rejected={}, kept=3, outputs={"kept": VersionRange("id", None, 7)})])
    write_documents(tmp_path, "kept", doc_id=["a"], body=["as it is now"])
    assert "as it is now" in run_report(pipeline(tmp_path), "run-1").html


def test_a_missing_version_or_column_raises_with_the_table(tmp_path: Path) -> None:
    write_documents(tmp_path, "kept", doc_id=["a"], body=["text"])
    with pytest.raises(TableError, match=r"version 7 of .*kept can't be read: "):
        delta_table(str(tmp_path / "lake" / "kept"), 7)
    with pytest.raises(TableError, match=r"kept.* can't be read: "):
        query(delta_table(str(tmp_path / "lake" / "kept")), "select nothing from t")


def test_a_run_passes_its_check_if_each_step_succeeded_and_its_counts_add_up() -> None:
    steps = ("tag", "filter", "route")
    check_run(run_manifests(), "run-1", steps)
    tagged, filtered, routed = run_manifests()
    with pytest.raises(ManifestError, match=r"run 'run-1': expected a manifest of filter, found none"):
        check_run([tagged, routed], "run-1", steps)
    failed = replace(filtered, status="failed", message="the disk is full")
    with pytest.raises(
        ManifestError, match=r"filter: expected status 'succeeded', found 'failed' \(the disk is full\)"
    ):
        check_run([tagged, failed, routed], "run-1", steps)
    with pytest.raises(ManifestError, match=r"expected kept \+ rejected \+ quarantined = 3 rows in, found 2 \+ 0 \+ 0"):
        check_run([tagged, replace(filtered, rejected={}), routed], "run-1", steps)
    check_run([tagged], "run-1", ("tag",))


def test_every_destination_that_a_run_claimed_is_listed(tmp_path: Path) -> None:
    runs = str(tmp_path / "lake" / "runs")
    assert claimed_destinations(runs, "mail") == set()
    claim = manifest("route", "run-2", status="running", routed={"shop": 0, "it's water": 0})
    other = replace(manifest("route", routed={"elsewhere": 1}), pipeline="other")
    write_runs(tmp_path, [*run_manifests(1), claim, other])
    assert claimed_destinations(runs, "mail") == {"unrouted", "shop", "it's water"}


def test_a_shadow_run_is_no_job_of_the_run_whose_id_it_has() -> None:
    run = run_manifests(1)
    beside = replace(run[0], job="shadow", sequence=9, status="failed", started_at=run[-1].started_at)
    assert select_run([beside, *run[::-1]], None)[0] == run
    earlier = replace(beside, run_id="run-0", status="succeeded", started_at=run[0].started_at - timedelta(days=1))
    assert select_run([*run[::-1], earlier], "run-1")[1] == []
