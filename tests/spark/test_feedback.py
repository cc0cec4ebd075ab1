"""Signals are ingested with their decisions, and exported as the snapshot of a retraining."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml
from delta.tables import DeltaTable
from pyspark.sql import SparkSession

from gliclass_spark.checkpoints.files import CALIBRATION
from gliclass_spark.cli.app import main
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.errors import ConfigError, ErrorShareError, TableError
from gliclass_spark.labels import Label, LabelSet
from gliclass_spark.spark.delta.lake import Lake
from gliclass_spark.spark.jobs import PipelineRun, tag_step
from gliclass_spark.spark.jobs.ingest_feedback import IngestedSignals, ingest
from gliclass_spark.spark.jobs.snapshot import snapshot
from gliclass_spark.training.data.logged_decisions import read_decisions

TEXTS = {f"d-{number}": f"document number {number} speaks of a lake" for number in range(6)} | {"blank": " "}
TOMORROW = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
LONG_AGO = "2026-01-01T08:00:00Z"
ZERO = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def tagged(spark: SparkSession, tiny_bi_encoder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline after a run with exploration. Tests copy it."""
    folder = tmp_path_factory.mktemp("tagged")
    frame = spark.createDataFrame(list(TEXTS.items()), "id string, body string").coalesce(1)
    frame.write.format("delta").option("delta.enableChangeDataFeed", "true").save(str(folder / "mail"))
    document = {
        "name": "mail",
        "source": {"path": "mail", "id": "id", "text": "body"},
        "label_set": ["spam", "lake"],
        "model": tiny_bi_encoder,
        "tables": "lake",
        "exploration": 0.5,
        "max_error_ratio": 0.5,
        "steps": ["tag"],
    }
    (folder / "mail.yaml").write_text(yaml.safe_dump(document))
    tag_step(PipelineRun(spark, Pipeline.from_yaml(folder / "mail.yaml"), "run-1", precision="float32"))
    return folder


@pytest.fixture
def folder(tagged: Path, tmp_path: Path) -> Path:
    shutil.copytree(tagged, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def pipeline(folder: Path) -> Pipeline:
    return Pipeline.from_yaml(folder / "mail.yaml")


def signal(doc_id: str, label: str, verdict: str, hours: int = 0, **more: Any) -> dict[str, Any]:
    observed_at = (TOMORROW + timedelta(hours=hours)).isoformat()
    return {"doc_id": doc_id, "label": label, "verdict": verdict, "source": "ui", "observed_at": observed_at, **more}


def write_signals(folder: Path, *signals: dict[str, Any], name: str = "signals.jsonl") -> str:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in signals))
    return str(folder / name)


def stored(spark: SparkSession, pipeline: Pipeline, table: str) -> list[dict[str, Any]]:
    return [row.asDict(recursive=True) for row in Lake(pipeline.tables).read(spark, table).collect()]


def version(spark: SparkSession, pipeline: Pipeline) -> int | None:
    return Lake(pipeline.tables).table("feedback").latest(spark).until


def test_a_signal_is_ingested_once_with_its_decision(spark: SparkSession, pipeline: Pipeline, folder: Path) -> None:
    tags = {row["doc_id"]: row for row in stored(spark, pipeline, "tags")}
    signals = [
        signal("d-0", "lake", "accepted"),
        signal("d-1", "spam", "rejected"),
        signal("d-2", "lake", "clicked"),
        signal("d-3", "lake", "rated", reward=-0.5),
        signal("d-4", "spam", "accepted", observed_at=LONG_AGO),
    ]
    first = ingest(spark, pipeline, write_signals(folder, *signals, signals[0]))
    assert first == IngestedSignals(read=6, new=5, duplicates=1, documents=0, late=1, contradicting=0, refused={})
    feedback = {row["doc_id"]: row for row in stored(spark, pipeline, "feedback")}
    for key, row in feedback.items():
        tag = tags[key]
        assert (row["label_set_hash"], row["content_hash"]) == (pipeline.label_set.hash, tag["content_hash"])
        if key == "d-4":
            assert [row[name] for name in ("chosen", "score", "propensity", "model_digest", "reward")] == [None] * 5
            continue
        label = row["label"]
        assert (row["chosen"], row["score"]) == (label in tag["labels"], tag["scores"][label])
        assert (row["propensity"], row["model_digest"]) == (tag["propensities"][label], tag["model_digest"])
    rewards = {key: row["reward"] for key, row in feedback.items()}
    assert rewards == {
        "d-0": 1.0 if feedback["d-0"]["chosen"] else -1.0,
        "d-1": -1.0 if feedback["d-1"]["chosen"] else 1.0,
        "d-2": 1.0,
        "d-3": -0.5,
        "d-4": None,
    }
    before = version(spark, pipeline)
    second = ingest(spark, pipeline, str(folder / "signals.jsonl"))
    assert (second.read, second.new, second.duplicates, second.late) == (6, 0, 6, 0)
    assert version(spark, pipeline) == before


INVALID: dict[str, dict[str, str | None]] = {
    "doc_id is empty": {"doc_id": " "},
    "corrected needs a label": {"label": " ", "verdict": "corrected"},
    "source is empty": {"source": ""},
    "unknown verdict": {"verdict": "liked"},
    "observed_at is no time, such as 2026-03-01T08:00:00Z": {"observed_at": "10:30"},
    "the verdict needs a reward": {"verdict": "dwelled"},
    "reward is no number from -1 to 1": {"reward": "NaN"},
    "unknown label_set_hash": {"label_set_hash": "0" * 64},
    "unknown doc_id": {"doc_id": "d-99"},
    "the document could not be scored": {"doc_id": "blank"},
    "unknown label": {"label": "boat"},
}


def test_invalid_signals_are_refused_by_reason_and_too_many_stop_the_ingestion(
    spark: SparkSession, pipeline: Pipeline, folder: Path
) -> None:
    invalid = [signal("d-0", "lake", "clicked") | {"reward": None, **fields} for fields in INVALID.values()]
    invalid += [signal("d-0", "lake", "rated", reward=reward) for reward in ("1.5", "-2", "much")]
    path = write_signals(folder, *invalid, signal("d-0", "lake", "accepted"))
    with pytest.raises(ErrorShareError, match=r"14 of 15 signals are refused, a share of 0.933, at most 0.5 "):
        ingest(spark, pipeline, path)
    assert not Lake(pipeline.tables).exists(spark, "feedback")
    result = ingest(spark, pipeline, path, max_error_ratio=1.0)
    assert {reason: refused.count for reason, refused in result.refused.items()} == {
        **dict.fromkeys(INVALID, 1),
        "reward is no number from -1 to 1": 4,
    }
    assert '"doc_id":"d-99"' in result.refused["unknown doc_id"].example
    assert (result.read, result.new, result.duplicates) == (15, 1, 0)


@pytest.mark.long
def test_signals_are_read_from_csv_parquet_delta_and_folders_of_them(
    spark: SparkSession, pipeline: Pipeline, folder: Path
) -> None:
    rows = [("d-0", "lake", "rated", 0.5, "ui", TOMORROW), ("d-1", "lake", "rated", 0.25, "ui", TOMORROW)]
    frame = spark.createDataFrame(
        rows, "doc_id string, label string, verdict string, reward double, source string, observed_at timestamp"
    ).coalesce(1)
    frame.write.parquet(str(folder / "parquet"))
    frame.write.format("delta").save(str(folder / "delta"))
    frame.withColumn("observed_at", frame.observed_at.cast("string")).write.option("header", "true").csv(
        str(folder / "csv")
    )
    news = [ingest(spark, pipeline, str(folder / kind)).new for kind in ("parquet", "delta", "csv")]
    assert news == [2, 0, 0]

    bare = frame.drop("label").where("doc_id = 'd-1'")
    bare.write.parquet(str(folder / "bare"))
    ingested = ingest(spark, pipeline, str(folder / "bare"))
    assert (ingested.new, ingested.documents) == (1, 1), "without the column, a signal is about the whole document"
    (folder / "short.csv").write_text("doc_id,label\nd-0,lake\n")
    with pytest.raises(TableError, match=r"column 'verdict' is missing; signals have .* found doc_id, label"):
        ingest(spark, pipeline, str(folder / "short.csv"))
    with pytest.raises(TableError, match=r"none.csv holds nothing; give a Delta table, a file of signals"):
        ingest(spark, pipeline, str(folder / "none.csv"))
    with pytest.raises(TableError, match=r"mail.yaml holds mail.yaml; give a Delta table, a file of signals"):
        ingest(spark, pipeline, str(folder / "mail.yaml"))


def test_the_command_prints_the_counts_of_signals(
    spark: SparkSession, pipeline: Pipeline, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = [signal("d-0", "lake", "accepted"), signal("d-0", "lake", "rejected"), signal("d-9", "lake", "clicked")]
    arguments = ["feedback", str(folder / "mail.yaml"), write_signals(folder, *both)]
    assert main(arguments) == 0
    shown = capsys.readouterr().out
    cells = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in shown.splitlines() if "│" in line]
    assert cells == [
        ["read", "3"],
        ["new", "2"],
        ["duplicates", "0"],
        ["late: new, about an earlier decision", "0"],
        ["refused: unknown doc_id", "1"],
        ["decisions with contradicting signals", "1"],
    ]
    assert 'refused: unknown doc_id, such as {"doc_id":"d-9"' in shown
    assert main([*arguments, "--max-error-ratio", "0.1"]) == 1
    assert "nothing was written" in capsys.readouterr().err


@pytest.mark.long
def test_a_snapshot_has_the_current_decisions_and_counts_the_others(
    spark: SparkSession, pipeline: Pipeline, folder: Path
) -> None:
    signals = [
        *(signal(f"d-{number}", "lake", "clicked", hours=number) for number in range(6)),
        signal("d-0", "spam", "corrected", observed_at=LONG_AGO),
        *(signal("d-5", "spam", verdict, hours=9) for verdict in ("accepted", "rejected")),
    ]
    ingest(spark, pipeline, write_signals(folder, *signals))
    source = DeltaTable.forPath(spark, str(pipeline.source.path))
    source.update("id = 'd-1'", {"body": "'another text'"})
    source.delete("id = 'd-2'")
    tag_step(PipelineRun(spark, pipeline, "run-2", precision="float32"))
    source.update("id = 'd-3'", {"body": "'a text that was not tagged yet'"})
    deleted = write_signals(folder, signal("d-2", "lake", "accepted", hours=20), name="deleted.jsonl")
    assert [*ingest(spark, pipeline, deleted, max_error_ratio=1.0).refused] == ["unknown doc_id"]

    path = str(folder / "snapshot")
    limited = snapshot(spark, pipeline, path, 0.4, max_documents=2)
    assert limited.counts == {
        "signals": 9,
        "late": 1,
        "mapped": 0,
        "dropped": 0,
        "decisions": 8,
        "contradicting": 1,
        "stale": 2,
        "gone": 1,
        "unknown": 1,
        "over_share": 0,
        "older": 2,
        "rows": 2,
        "rewarded_documents": 0,
        "documents": 2,
        "held_out": 1,
    }
    assert snapshot(spark, pipeline, path, 0.4) == limited, "a folder that has a snapshot keeps it"

    full = snapshot(spark, pipeline, str(folder / "full"), 0.4)
    content = json.loads((folder / "full" / "snapshot.json").read_text())
    assert LabelSet.from_json(json.dumps(content["label_set"])).hash == pipeline.label_set.hash
    assert (content["exploration"], content["counts"]) == (0.5, full.counts)
    assert {name: table["version"] for name, table in content["tables"].items()} == {
        name: Lake(pipeline.tables).table(name).latest(spark).until for name in ("feedback", "tags")
    } | {"source": 3}
    rows = pq.read_table(folder / "full" / "feedback.parquet")
    assert {field.name: str(field.type) for field in rows.schema} == {
        **{"doc_id": "string", "text": "string", "label": "string", "target": "int8", "reward": "float"},
        "model_digest": "string",
        **{"chosen": "bool", "propensity": "double", "score": "float", "observed_at": "timestamp[us, tz=UTC]"},
        "held_out": "bool",
    }
    by_decision = {(row["doc_id"], row["label"]): row for row in rows.to_pylist()}
    assert set(by_decision) == {("d-0", "lake"), ("d-0", "spam"), ("d-4", "lake"), ("d-5", "lake")}
    assert {key for key, row in by_decision.items() if row["held_out"]} == {("d-5", "lake")}
    tags = {row["doc_id"]: row for row in stored(spark, pipeline, "tags")}
    clicked, late = by_decision["d-4", "lake"], by_decision["d-0", "spam"]
    assert clicked == {
        "doc_id": "d-4",
        "text": TEXTS["d-4"],
        "label": "lake",
        "target": None,
        "reward": 1.0,
        "chosen": "lake" in tags["d-4"]["labels"],
        "propensity": tags["d-4"]["propensities"]["lake"],
        "score": tags["d-4"]["scores"]["lake"],
        "model_digest": tags["d-4"]["model_digest"],
        "observed_at": TOMORROW + timedelta(hours=4),
        "held_out": False,
    }
    assert (late["target"], late["reward"], late["chosen"], late["propensity"], late["score"]) == (1, *[None] * 4)


def test_feedback_without_a_label_judges_all_labels_of_a_document(
    spark: SparkSession, pipeline: Pipeline, folder: Path
) -> None:
    tags = {row["doc_id"]: row for row in stored(spark, pipeline, "tags")}
    whole = {"label": None}
    signals = [
        signal("d-0", "lake", "accepted") | whole,
        signal("d-1", "lake", "rejected", hours=1) | {"label": " "},
        signal("d-2", "lake", "rated", hours=2, reward=0.25) | whole,
        signal("d-2", "lake", "rejected", hours=2),
        signal("d-3", "lake", "clicked", observed_at=LONG_AGO) | whole,
        signal("blank", "lake", "accepted") | whole,
    ]
    path = write_signals(folder, *signals)
    first = ingest(spark, pipeline, path)
    assert (first.new, first.documents, first.late) == (5, 4, 1)
    assert {reason: refused.count for reason, refused in first.refused.items()} == {
        "the document could not be scored": 1
    }
    assert ingest(spark, pipeline, path).duplicates == 5, "a missing label is a key, too"
    feedback = {(row["doc_id"], row["label"]): row for row in stored(spark, pipeline, "feedback")}
    for doc_id, reward in (("d-0", 1.0), ("d-1", -1.0), ("d-2", 0.25)):
        row, tag = feedback[doc_id, None], tags[doc_id]
        assert (row["chosen"], row["reward"], row["score"], row["propensity"]) == (True, reward, None, None)
        assert (row["labels"], row["scores"]) == (sorted(tag["labels"]), tag["scores"])
        assert row["propensities"] == tag["propensities"]
    for key in (("d-2", "lake"), ("d-3", None)):
        assert [feedback[key][name] for name in ("labels", "scores", "propensities")] == [None] * 3

    result = snapshot(spark, pipeline, str(folder / "snapshot"), 0.3)
    counted = ("signals", "late", "decisions", "unknown", "rows", "rewarded_documents", "documents", "held_out")
    assert [result.counts[name] for name in counted] == [5, 1, 5, 1, 4, 3, 3, 1]
    decisions = read_decisions(folder / "snapshot")
    texts = dict(zip(decisions.texts, range(len(decisions)), strict=True))
    rows = [texts[TEXTS[doc_id]] for doc_id in ("d-0", "d-1", "d-2")]
    assert decisions.document_rewards[rows].tolist() == [1.0, -1.0, 0.25]
    assert decisions.held_out[rows].tolist() == [False, False, True]
    spam, lake = (decisions.label_set.names.index(name) for name in ("spam", "lake"))
    assert decisions.actions[rows[0], spam] == ("spam" in tags["d-0"]["labels"])
    assert decisions.propensities[rows[1], lake] == pytest.approx(tags["d-1"]["propensities"]["lake"])
    assert decisions.targets[rows].tolist() == [[-1, -1], [-1, -1], [-1, 0] if lake == 1 else [0, -1]]

    # A label set that has not all of the labels that a document got can't say whether they were right together.
    changed = pipeline.model_copy(update={"label_set": LabelSet.of("lake", name="mail")})
    mapped = snapshot(spark, changed, str(folder / "changed"), 0.3)
    had_spam = sum("spam" in tags[doc_id]["labels"] for doc_id in ("d-0", "d-1", "d-2"))
    assert mapped.counts["dropped"] == had_spam
    assert mapped.counts["rewarded_documents"] == 3 - had_spam
    with pytest.raises(ConfigError, match=r"snapshot with another feedback.resolve; retrain under a new run id"):
        snapshot(spark, pipeline, str(folder / "snapshot"), 0.3, resolve="majority")


def test_a_late_signal_does_not_hold_out_a_document_that_an_earlier_training_may_have_read(
    spark: SparkSession, pipeline: Pipeline, folder: Path
) -> None:
    first = [signal("d-0", "lake", "accepted"), signal("d-0", "lake", "clicked", hours=9)]
    signals = [*first, signal("d-4", "lake", "accepted", hours=3)]
    ingest(spark, pipeline, write_signals(folder, *signals))
    snapshot(spark, pipeline, str(folder / "snapshot"), 0.4)
    rows = pq.read_table(folder / "snapshot" / "feedback.parquet").to_pylist()
    assert {row["doc_id"]: row["held_out"] for row in rows} == {"d-0": False, "d-4": True}


def test_an_unfinished_snapshot_is_written_again_and_one_without_feedback_is_empty(
    spark: SparkSession, pipeline: Pipeline, folder: Path
) -> None:
    with pytest.raises(TableError, match=r"there is no Delta table at .*feedback; run the job that writes it first"):
        snapshot(spark, pipeline, str(folder / "none"), 0.2)
    with pytest.raises(ConfigError, match=r"holdout_share 1 is no share"):
        snapshot(spark, pipeline, str(folder / "none"), 1)
    ingest(spark, pipeline, write_signals(folder, signal("d-0", "lake", "clicked")))
    unfinished = folder / "unfinished" / "feedback.parquet"
    unfinished.mkdir(parents=True)
    (unfinished / "part.parquet").write_text("half of it")
    result = snapshot(spark, pipeline, str(folder / "unfinished"), 0.2)
    assert (result.counts["rows"], result.counts["held_out"]) == (1, 0)
    assert pq.read_table(unfinished).num_rows == 1
    assert sorted(path.name for path in (folder / "unfinished").iterdir() if path.suffix != ".crc") == [
        "feedback.parquet",
        "snapshot.json",
    ]
    other = pipeline.model_copy(update={"label_set": LabelSet.of("else")})
    for settings, share, changed in ((pipeline, 0.3, "holdout_share"), (other, 0.2, "label set")):
        with pytest.raises(ConfigError, match=f"unfinished holds a snapshot with another {changed}; retrain under a"):
            snapshot(spark, settings, str(folder / "unfinished"), share)


def test_feedback_stays_when_the_label_set_changes(spark: SparkSession, pipeline: Pipeline, folder: Path) -> None:
    signals = [signal("d-0", "lake", "accepted"), signal("d-0", "spam", "rejected"), signal("d-1", "lake", "clicked")]
    ingest(spark, pipeline, write_signals(folder, *signals))
    tags = {row["doc_id"]: row for row in stored(spark, pipeline, "tags")}
    labels = (Label(name="lake", threshold=0.9, temperature=2.0), Label(name="boat"))
    changed = pipeline.model_copy(update={"label_set": LabelSet(name="mail", labels=labels)})
    result = snapshot(spark, changed, str(folder / "changed"), 0.2)
    counted = ("signals", "mapped", "dropped", "gone", "rows", "documents")
    assert [result.counts[name] for name in counted] == [2, 2, 1, 0, 2, 2]
    rows = {row["doc_id"]: row for row in pq.read_table(folder / "changed" / "feedback.parquet").to_pylist()}
    for doc_id, row in rows.items():
        assert row["label"] == "lake"
        assert (row["propensity"], row["score"]) == (
            tags[doc_id]["propensities"]["lake"],
            tags[doc_id]["scores"]["lake"],
        )
    limited = snapshot(spark, pipeline, str(folder / "limited"), 0.2, max_source_share=0.5)
    assert limited.counts["over_share"] == 0, "one source alone always has all of the feedback"
    # Another pipeline's label set in the same tables is not one of its own.
    stranger = changed.model_copy(update={"name": "other"})
    empty = snapshot(spark, stranger, str(folder / "empty"), 0.2)
    assert [empty.counts[name] for name in counted] == [0, 0, 0, 0, 0, 0]
    assert pq.read_table(folder / "empty" / "feedback.parquet").num_rows == 0


def test_a_models_calibration_comes_and_goes_with_it_and_the_label_set_stays(
    spark: SparkSession, pipeline: Pipeline, folder: Path
) -> None:
    before = {row["doc_id"]: row for row in stored(spark, pipeline, "tags")}
    model = shutil.copytree(str(pipeline.model), folder / "model")
    labels = (Label(name="spam", threshold=0.999999), Label(name="lake", bias=30.0, threshold=0.999998))
    (model / CALIBRATION).write_text(LabelSet(labels=labels).to_yaml())
    promoted = pipeline.model_copy(update={"model": str(model), "exploration": 0.0})
    tag_step(PipelineRun(spark, promoted, "run-2", precision="float32"))
    after = {row["doc_id"]: row for row in stored(spark, pipeline, "tags")}
    assert {row["label_set_hash"] for row in after.values()} == {pipeline.label_set.hash}
    assert after["d-0"]["model_digest"] != before["d-0"]["model_digest"]
    for doc_id in TEXTS.keys() - {"blank"}:
        assert after[doc_id]["labels"] == ["lake"]
        assert after[doc_id]["scores"]["lake"] > 0.99 > before[doc_id]["scores"]["lake"]
        assert after[doc_id]["scores"]["spam"] == pytest.approx(before[doc_id]["scores"]["spam"], abs=1e-5)


@pytest.mark.long
def test_a_source_of_files_has_no_version_and_without_exploration_there_is_no_propensity(
    spark: SparkSession, pipeline: Pipeline, folder: Path
) -> None:
    (folder / "mail.json").write_text('{"id": "f-0", "body": "a lake of text"}\n{"id": "f-1", "body": "a boat"}\n')
    source = pipeline.source.model_copy(update={"path": str(folder / "mail.json"), "format": "json"})
    settings = {"source": source, "exploration": 0.0, "tables": str(folder / "other")}
    of_files = pipeline.model_copy(update=settings)
    tag_step(PipelineRun(spark, of_files, "run-1", precision="float32"))
    signals = [signal(f"f-{number}", "lake", "accepted") for number in range(2)]
    ingest(spark, of_files, write_signals(folder, *signals))
    result = snapshot(spark, of_files, str(folder / "snapshot"), 0.01)
    assert result.tables["source"] == {"path": str(folder / "mail.json"), "version": None}
    rows = pq.read_table(folder / "snapshot" / "feedback.parquet").to_pylist()
    assert [row["propensity"] for row in rows] == [None, None]
    assert {row["doc_id"]: row["held_out"] for row in rows} == {"f-0": True, "f-1": False}
