"""Runs with nothing to do, without Spark: they are recorded, and anything that a run would do is left to it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from written_runs import manifest, pipeline, write_runs

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.runs import manifest_writer
from gliclass_spark.runs.delta_reader import commit_id
from gliclass_spark.runs.empty_run import finish_empty_run
from gliclass_spark.runs.history import recent_manifests
from gliclass_spark.runs.manifest import Manifest, VersionRange
from gliclass_spark.runs.settings import filter_settings, route_settings, tag_settings

MODEL = "a1b2"


def add(folder: Path, name: str) -> VersionRange:
    """Append a row to a table. Return its latest version."""
    path = str(folder / name)
    write_deltalake(path, pa.table({"id": ["a"], "body": ["a lake"]}), mode="append")
    table = DeltaTable(path)
    return VersionRange(str(table.metadata().id), None, table.version())


@pytest.fixture
def settings(tmp_path: Path) -> Pipeline:
    """A pipeline that has run once."""
    config = pipeline(tmp_path)
    source = add(tmp_path, "mail")
    tags, kept, unrouted = (add(tmp_path, f"lake/{name}") for name in ("tags", "kept", "unrouted"))
    commits = {"source": str(commit_id(str(tmp_path / "mail"), 0))}
    tag = manifest(
        "tag",
        settings_hash=tag_settings(config, MODEL, "changed"),
        inputs={"source": source},
        commits=commits,
        outputs={"tags": tags},
        **{"rows_in": 3, "tagged": 3, "documents": 3, "model_loads": 1, "label_counts": {"spam": 1}},
    )
    filtered = manifest(
        "filter",
        settings_hash=filter_settings(config),
        inputs={"source": source, "tags": tags},
        commits=commits,
        outputs={"kept": kept},
        **{"rows_in": 3, "kept": 3, "quarantined": 0, "documents": 3},
    )
    routed = manifest(
        "route",
        settings_hash=route_settings(config),
        inputs={"kept": kept},
        outputs={"unrouted": unrouted},
        **{"rows_in": 3, "routed": {"unrouted": 3}, "routed_documents": 3, "documents": 3},
    )
    write_runs(tmp_path, [tag, filtered, routed])
    return config


def finish(settings: Pipeline, run_id: str = "run-2", digest: str = MODEL) -> list[Manifest] | None:
    return finish_empty_run(settings, settings.steps, run_id, digest, "changed")


def test_a_run_with_nothing_to_do_is_recorded(settings: Pipeline) -> None:
    done = finish(settings)
    assert done is not None
    assert [(row.job, row.run_id, row.sequence, row.rows_in, row.documents) for row in done] == [
        ("tag", "run-2", 2, 0, 3),
        ("filter", "run-2", 2, 0, 3),
        ("route", "run-2", 2, 0, 3),
    ]
    assert {row.message for row in done} == {"nothing to do since run run-1"}
    assert done[0].inputs["source"] == replace(done[0].inputs["source"], since=0, until=0)
    for row in done:
        row.check()
    recorded = [row for row in recent_manifests(settings) if row.run_id == "run-2"]
    assert sorted(recorded, key=lambda row: row.job) == sorted(done, key=lambda row: row.job)


def test_its_steps_are_recorded_once(settings: Pipeline) -> None:
    done = finish(settings)
    assert finish(settings) == done
    assert len(recent_manifests(settings)) == 6
    assert finish(settings, "run-3") is not None


CHANGES: dict[str, Callable[[Path], object]] = {
    "new documents": lambda folder: add(folder, "mail"),
    "another writer": lambda folder: add(folder, "lake/kept"),
    "a run that did not finish": lambda folder: write_runs(
        folder, [manifest("filter", "run-2", "running", settings_hash=filter_settings(pipeline(folder)))]
    ),
    "a source that was put back": lambda folder: _put_back(folder / "mail"),
    "a source that was put back, and tagged": lambda folder: _put_back_and_tag(folder),
}


def _put_back(source: Path) -> None:
    commit = source / "_delta_log" / "00000000000000000000.json"
    commit.write_text(commit.read_text() + "\n")


def _put_back_and_tag(folder: Path) -> None:
    """The texts are the same, so `tags` has no new version; other columns may have changed, for filter to see."""
    _put_back(folder / "mail")
    tagged = next(row for row in recent_manifests(pipeline(folder)) if row.job == "tag")
    commits = {"source": str(commit_id(str(folder / "mail"), 0))}
    write_runs(folder, [replace(tagged, run_id="run-2", sequence=2, commits=commits)])


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_with_something_to_do_is_left_to_spark(settings: Pipeline, tmp_path: Path, change: str) -> None:
    CHANGES[change](tmp_path)
    before = len(recent_manifests(settings))
    assert finish(settings) is None
    assert len(recent_manifests(settings)) == before


@pytest.mark.parametrize(
    "update",
    [
        {"label_set": ["spam", "ham"]},
        {"exploration": 0.5},
        {"reject": [{"reason": "short", "when": "token_count < 5"}]},
        {"routes": [{"route": "long", "when": "token_count > 5"}]},
        {"output": {"properties": {"delta.checkpointInterval": 20}}},
    ],
    ids=str,
)
def test_other_settings_are_left_to_spark(settings: Pipeline, update: dict[str, Sequence[object]]) -> None:
    same = {**settings.model_dump(exclude={"label_set", "airflow"}), "label_set": ["spam"]}
    assert finish(Pipeline.model_validate({**same, **update})) is None
    assert finish(Pipeline.model_validate(same)) is not None


def test_another_model_is_left_to_spark(settings: Pipeline) -> None:
    assert finish(settings, digest="c3d4") is None


def test_a_pipeline_that_has_not_run_is_left_to_spark(tmp_path: Path) -> None:
    add(tmp_path, "mail")
    assert finish(pipeline(tmp_path)) is None


def test_a_run_that_claims_a_job_meanwhile_goes_first(settings: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = f"{settings.tables}/runs"
    opened = manifest_writer.delta_table

    def claimed_after(path: str) -> DeltaTable:
        table = opened(path)
        monkeypatch.undo()
        claim = CommitProperties(app_transactions=[Transaction("mail/tag", 4)])
        rows = DeltaTable(runs).to_pyarrow_table().slice(0, 1)
        write_deltalake(runs, rows, mode="append", commit_properties=claim)
        return table

    monkeypatch.setattr(manifest_writer, "delta_table", claimed_after)
    before = len(recent_manifests(settings))
    assert finish(settings) is None
    assert len(recent_manifests(settings)) == before + 1
