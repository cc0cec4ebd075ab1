"""A pipeline over Delta tables: the promises of the design, by name."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyspark.sql import SparkSession
from stored_tables import stored_rows

from gliclass_spark.checkpoints.digest import digest_of
from gliclass_spark.cli.app import main
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.config.rules import Rules
from gliclass_spark.errors import ConfigError, ErrorShareError, TableError
from gliclass_spark.labels import LabelSet
from gliclass_spark.runs.manifest import Manifest
from gliclass_spark.spark.jobs import STEPS, PipelineRun, filter_step, route_step, tag_step

TEXTS = {
    "a": "A lake of data, with many tables in it, and people who look after them every night.",
    "b": "short",
    "c": "Buy now! Only today, for you alone, this wonderful watch at half the price.",
    "d": None,
    "e": "The quick brown fox jumps over the lazy dog, again and again, until it is tired.",
    "f": "   ",
    "g": "Zwölf Boxkämpfer jagen Viktor quer über den großen Sylter Deich, sagt man hier.",
}


def write_json(path: Path, texts: dict[str, str | None]) -> None:
    path.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"id": key, "body": text, "lang": "xx"}) for key, text in texts.items()]
    (path / "part.json").write_text("\n".join(lines) + "\n")


def configuration(tiny_bi_encoder: str) -> dict[str, Any]:
    return {
        "name": "mail",
        "source": {"path": "mail", "format": "json", "id": "id", "text": "body"},
        "label_set": ["spam", "ham", "lake"],
        "model": tiny_bi_encoder,
        "tables": "lake",
        "reject": [
            {"reason": "too_short", "when": "token_count < 5"},
            {"reason": "german", "when": "body like 'Zw%' or labels[7] = 'spam'"},
        ],
        "routes": [
            {"route": "shop", "when": "lower(body) like '%buy%'"},
            {"route": "sure", "when": "scores['lake'] >= 2"},
        ],
        "max_error_ratio": 0.5,
    }


@pytest.fixture
def config(tmp_path: Path, tiny_bi_encoder: str) -> dict[str, Any]:
    write_json(tmp_path / "mail", TEXTS)
    return configuration(tiny_bi_encoder)


def pipeline_of(config: dict[str, Any], folder: Path) -> Pipeline:
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(config))
    return Pipeline.from_yaml(folder / "pipeline.yaml")


def run_all(run: PipelineRun) -> dict[str, Manifest]:
    return {name: step(run) for name, step in STEPS.items()}


@pytest.fixture
def run(spark: SparkSession, config: dict[str, Any], tmp_path: Path) -> PipelineRun:
    return PipelineRun(spark, pipeline_of(config, tmp_path), "run-1")


@pytest.fixture(scope="module")
def first_run(
    spark: SparkSession, tiny_bi_encoder: str, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, Manifest]]:
    """A folder in which a pipeline has run once, and the manifests of the run. Tests copy it."""
    folder = tmp_path_factory.mktemp("first_run")
    write_json(folder / "mail", TEXTS)
    return folder, run_all(PipelineRun(spark, pipeline_of(configuration(tiny_bi_encoder), folder), "run-1"))


@pytest.fixture
def ran(first_run: tuple[Path, dict[str, Manifest]], run: PipelineRun, tmp_path: Path) -> PipelineRun:
    """The pipeline after its first run."""
    shutil.copytree(first_run[0] / "lake", tmp_path / "lake")
    return run


def table(run: PipelineRun, name: str) -> dict[str, Any]:
    return {row["doc_id"]: row for row in stored_rows(run.lake.path(name))}


def versions(run: PipelineRun) -> dict[str, int]:
    """Return the number of commits of every table but `runs`."""
    names = ["tags", "kept", "rejected", "quarantined", *run.pipeline.rules.destinations]
    return {name: len(list(Path(run.lake.path(name), "_delta_log").glob("*.json"))) for name in names}


def test_promise_2_nothing_is_lost_nothing_is_doubled(
    ran: PipelineRun, first_run: tuple[Path, dict[str, Manifest]]
) -> None:
    run, done = ran, first_run[1]
    assert done["tag"].tagged == len(TEXTS)
    assert set(table(run, "kept")) == {"a", "c", "e"}
    assert {key: row["reason"] for key, row in table(run, "rejected").items()} == {"b": "too_short", "g": "german"}
    assert {key: row["error"]["code"] for key, row in table(run, "quarantined").items()} == {
        "d": "null_text",
        "f": "empty_text",
    }
    assert {name: set(table(run, name)) for name in run.pipeline.rules.destinations} == {
        "shop": {"c"},
        "sure": set(),
        "unrouted": {"a", "e"},
    }
    filtered = done["filter"]
    assert (filtered.rows_in, filtered.kept, filtered.rejected, filtered.quarantined) == (
        7,
        3,
        {"too_short": 1, "german": 1},
        2,
    )
    assert done["route"].routed == {"shop": 1, "sure": 0, "unrouted": 2}
    stored = {row["job"]: row for row in stored_rows(run.lake.path("runs"), "status = 'succeeded'")}
    assert set(stored) == set(STEPS)
    assert stored["filter"]["rejected"] == {"too_short": 1, "german": 1}
    assert stored["tag"]["errors"] == {"null_text": 1, "empty_text": 1}
    assert stored["tag"]["model_loads"] <= 2


def test_promise_4_run_again_change_nothing(ran: PipelineRun) -> None:
    run = ran
    before = versions(run)
    again = run_all(replace(run, run_id="run-2"))
    assert again["tag"].tagged == 0
    assert again["tag"].model_loads == 0
    assert versions(run) == before
    assert table(run, "kept")["a"]["run_id"] == "run-1"


def test_promise_4_a_manifest_row_is_written_once(ran: PipelineRun) -> None:
    run = ran
    run_all(run)
    rows = stored_rows(run.lake.path("runs"), "run_id = 'run-1'")
    assert Counter(row["status"] for row in rows) == {"running": len(STEPS), "succeeded": len(STEPS)}


def test_promise_5_every_decision_can_be_explained(ran: PipelineRun, tiny_bi_encoder: str) -> None:
    expected = {
        "run_id": "run-1",
        "label_set_hash": LabelSet.of("spam", "ham", "lake", name="mail").hash,
        "rules_hash": Rules.model_validate(
            {key: configuration(tiny_bi_encoder)[key] for key in ("reject", "routes")}
        ).hash,
        "model": tiny_bi_encoder,
        "model_digest": digest_of(Path(tiny_bi_encoder)),
    }
    for name in ("kept", "rejected", "quarantined", "shop", "unrouted"):
        rows = table(ran, name)
        assert rows
        for row in rows.values():
            assert {column: row[column] for column in expected} == expected
    assert table(ran, "kept")["a"]["lang"] == "xx"
    assert table(ran, "shop")["c"]["route"] == "shop"


def test_only_new_and_changed_documents_are_tagged(ran: PipelineRun, tmp_path: Path) -> None:
    run = ran
    changed = {"a": "buy this lake today, it has data in it", "h": "a new document, never seen"}
    write_json(tmp_path / "mail", {**TEXTS, **changed})
    done = run_all(replace(run, run_id="run-2"))
    assert done["tag"].tagged == 2
    assert {key: row["run_id"] for key, row in table(run, "tags").items() if key in "ach"} == {
        "a": "run-2",
        "c": "run-1",
        "h": "run-2",
    }
    assert set(table(run, "shop")) == {"a", "c"}
    assert set(table(run, "unrouted")) == {"e", "h"}


def test_a_deleted_document_is_removed_from_every_table(ran: PipelineRun, tmp_path: Path) -> None:
    run = ran
    write_json(tmp_path / "mail", {key: text for key, text in TEXTS.items() if key not in "cg"})
    run_all(replace(run, run_id="run-2"))
    assert set(table(run, "kept")) == {"a", "e"}
    assert set(table(run, "rejected")) == {"b"}
    assert set(table(run, "shop")) == set()


def test_a_changed_rule_needs_no_model(ran: PipelineRun, config: dict[str, Any], tmp_path: Path) -> None:
    run = ran
    config["reject"] = [{"reason": "too_short", "when": "token_count < 5"}]
    config["model"] = "./missing"  # filter and route must not resolve it
    changed = replace(run, pipeline=pipeline_of(config, tmp_path), run_id="run-2")
    assert filter_step(changed).kept == 4
    assert route_step(changed).routed == {"shop": 1, "sure": 0, "unrouted": 3}


def test_promise_3_too_many_bad_rows_stop_the_run_with_nothing_committed(
    run: PipelineRun, config: dict[str, Any], tmp_path: Path
) -> None:
    config["max_error_ratio"] = 0.1
    strict = replace(run, pipeline=pipeline_of(config, tmp_path))
    with pytest.raises(ErrorShareError, match=r"2 of 7 texts could not be scored \(empty_text: 1, null_text: 1\)"):
        tag_step(strict)
    assert not run.lake.exists(run.spark, "tags")
    [row] = stored_rows(run.lake.path("runs"), "status != 'running'")
    assert (row["status"], row["tagged"]) == ("failed", 7)
    assert row["errors"] == {"empty_text": 1, "null_text": 1}


@pytest.mark.parametrize(
    "form", ["delta", pytest.param("parquet", marks=pytest.mark.long), pytest.param("csv", marks=pytest.mark.long)]
)
def test_delta_parquet_and_csv_are_read_as_json_is(
    run: PipelineRun, config: dict[str, Any], tmp_path: Path, form: str
) -> None:
    frame = run.spark.read.json(str(tmp_path / "mail"))
    frame.write.format(form).options(header="true", escape='"').save(str(tmp_path / form))
    config["source"].update(path=form, format=form)
    other = replace(run, pipeline=pipeline_of(config, tmp_path))
    assert tag_step(other).tagged == len(TEXTS)
    done = filter_step(other)
    assert (done.kept, done.rejected) == (3, {"too_short": 1, "german": 1})


def test_a_catalog_table_without_versions_is_read_as_it_is_also_as_of_a_time(
    run: PipelineRun, config: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = datetime.now(UTC)
    with pytest.raises(ConfigError, match=r"mail keeps no versions: it can't be read as it was at .*use a Delta table"):
        tag_step(replace(run, until=now))
    run.spark.read.json(str(tmp_path / "mail")).createOrReplaceTempView("mail_as_it_is")
    config["source"] = {"table": "mail_as_it_is", "id": "id", "text": "body"}
    tagged = tag_step(replace(run, pipeline=pipeline_of(config, tmp_path), until=now))
    assert (tagged.tagged, tagged.inputs["source"].until) == (len(TEXTS), None)
    assert "table mail_as_it_is keeps no versions: it is read as it is, not as of" in caplog.text


REFUSED = [
    ({"source": {"path": "nowhere", "format": "json", "id": "id", "text": "body"}}, "nowhere"),
    ({"source": {"path": "nowhere", "id": "id", "text": "body"}}, "there is no Delta table at"),
    ({"source": {"table": "no_such_table", "id": "id", "text": "body"}}, "there is no table at table no_such_table"),
    ({"source": {"path": "mail", "format": "json", "id": "key", "text": "body"}}, "no column 'key' (source.id)"),
    ({"source": {"path": "mail", "format": "json", "id": "id", "text": "txt"}}, "no column 'txt' (source.text)"),
    ({"model": "./no-model"}, "no-model"),
    ({"reject": [{"reason": "x", "when": "titel = 'a'"}]}, "unknown column 'titel'"),
    ({"reject": [{"reason": "x", "when": "scores['sparn'] > 0.5"}]}, "unknown label 'sparn'; did you mean 'spam'?"),
    ({"reject": [{"reason": "x", "when": "body['a'] = 1"}]}, "Spark can't evaluate"),
]


@pytest.mark.parametrize(("change", "message"), REFUSED, ids=[message for _, message in REFUSED])
def test_bad_configuration_is_one_line_exit_2_and_nothing_written(
    spark: SparkSession,
    config: dict[str, Any],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: dict[str, Any],
    message: str,
) -> None:
    (tmp_path / "pipeline.yaml").write_text(yaml.safe_dump({**config, **change}))
    assert main(["run", str(tmp_path / "pipeline.yaml")]) == 2
    *progress, error = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in progress] in ([], ["tag"])
    assert error.startswith("error: ")
    assert message in error
    assert not (tmp_path / "lake").exists()


def test_duplicate_and_null_ids_are_refused(run: PipelineRun, tmp_path: Path) -> None:
    part = tmp_path / "mail" / "more.json"
    part.write_text('{"id": "a", "body": "again"}\n')
    with pytest.raises(TableError, match=r"ids of source.id 'id' repeat: 'a' \(2 rows\)"):
        tag_step(run)
    part.write_text('{"body": "without an id"}\n')
    with pytest.raises(TableError, match=r"1 rows have no id"):
        tag_step(run)
    assert not Path(run.lake.path("tags")).exists()
    failed = stored_rows(run.lake.path("runs"), "status = 'failed' order by sequence")
    assert ["repeat: 'a' (2 rows)" in failed[0]["message"], "1 rows have no id" in failed[1]["message"]] == [True, True]


def test_duplicate_ids_are_refused_in_a_later_run_too(ran: PipelineRun, tmp_path: Path) -> None:
    (tmp_path / "mail" / "more.json").write_text('{"id": "a", "body": "again"}\n')
    with pytest.raises(TableError, match=r"ids of source.id 'id' repeat: 'a' \(2 rows\)"):
        tag_step(replace(ran, run_id="run-2"))


def test_a_column_that_the_jobs_add_is_refused(run: PipelineRun, tmp_path: Path) -> None:
    (tmp_path / "mail" / "more.json").write_text('{"id": "z", "body": "text", "Reason": "none"}\n')
    with pytest.raises(TableError, match="the column 'Reason' has the name of one that the jobs add"):
        tag_step(run)


def test_filter_before_tag_names_the_job_to_run(run: PipelineRun) -> None:
    with pytest.raises(
        TableError, match=r"tags: the last tag job did not use label set 'mail' .*run the tag job first"
    ):
        filter_step(run)


def test_documents_that_came_after_tagging_wait_for_the_next_run(run: PipelineRun, tmp_path: Path) -> None:
    tag_step(run)
    write_json(tmp_path / "mail", {**TEXTS, "a": "another text than before, and longer", "h": "never seen"})
    done = filter_step(run)
    assert (done.rows_in, done.waiting, done.documents) == (6, 2, 6)
    assert set(table(run, "kept")) == {"c", "e"}
