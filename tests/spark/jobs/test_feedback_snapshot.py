"""The snapshot of a retraining: decisions with their feedback."""

from __future__ import annotations

import json
import shutil
from datetime import timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from delta.tables import DeltaTable
from feedback_signals import LONG_AGO, TEXTS, TOMORROW, signal, stored, write_signals
from pyspark.sql import SparkSession

from gliclass_spark.checkpoints.files import CALIBRATION
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.errors import ConfigError, TableError
from gliclass_spark.labels import Label, LabelSet
from gliclass_spark.spark.delta.lake import Lake
from gliclass_spark.spark.jobs import PipelineRun, tag_step
from gliclass_spark.spark.jobs.feedback.ingestion import ingest
from gliclass_spark.spark.jobs.feedback.snapshot import snapshot


@pytest.mark.long
def test_a_snapshot_has_the_current_decisions_and_counts_the_others(
    spark: SparkSession, mail_pipeline: Pipeline, mail_folder: Path
) -> None:
    signals = [
        *(signal(f"d-{number}", "lake", "clicked", hours=number) for number in range(6)),
        signal("d-0", "spam", "corrected", observed_at=LONG_AGO),
        *(signal("d-5", "spam", verdict, hours=9) for verdict in ("accepted", "rejected")),
    ]
    ingest(spark, mail_pipeline, write_signals(mail_folder, *signals))
    source = DeltaTable.forPath(spark, str(mail_pipeline.source.path))
    source.update("id = 'd-1'", {"body": "'another text'"})
    source.delete("id = 'd-2'")
    tag_step(PipelineRun(spark, mail_pipeline, "run-2", precision="float32"))
    source.update("id = 'd-3'", {"body": "'a text that was not tagged yet'"})
    deleted = write_signals(mail_folder, signal("d-2", "lake", "accepted", hours=20), name="deleted.jsonl")
    assert [*ingest(spark, mail_pipeline, deleted, max_error_ratio=1.0).refused] == ["unknown doc_id"]

    path = str(mail_folder / "snapshot")
    limited = snapshot(spark, mail_pipeline, path, 0.4, max_documents=2)
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
    assert snapshot(spark, mail_pipeline, path, 0.4) == limited, "a folder that has a snapshot keeps it"

    full = snapshot(spark, mail_pipeline, str(mail_folder / "full"), 0.4)
    content = json.loads((mail_folder / "full" / "snapshot.json").read_text())
    assert LabelSet.from_json(json.dumps(content["label_set"])).hash == mail_pipeline.label_set.hash
    assert (content["exploration"], content["counts"]) == (0.5, full.counts)
    assert {name: table["version"] for name, table in content["tables"].items()} == {
        name: Lake(mail_pipeline.tables).table(name).latest(spark).until for name in ("feedback", "tags")
    } | {"source": 3}
    rows = pq.read_table(mail_folder / "full" / "feedback.parquet")
    assert {field.name: str(field.type) for field in rows.schema} == {
        **{"doc_id": "string", "text": "string", "label": "string", "target": "int8", "reward": "float"},
        "model_digest": "string",
        **{"chosen": "bool", "propensity": "double", "score": "float", "observed_at": "timestamp[us, tz=UTC]"},
        "held_out": "bool",
    }
    by_decision = {(row["doc_id"], row["label"]): row for row in rows.to_pylist()}
    assert set(by_decision) == {("d-0", "lake"), ("d-0", "spam"), ("d-4", "lake"), ("d-5", "lake")}
    assert {key for key, row in by_decision.items() if row["held_out"]} == {("d-5", "lake")}
    tags = {row["doc_id"]: row for row in stored(mail_pipeline, "tags")}
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


def test_a_late_signal_does_not_hold_out_a_document_that_an_earlier_training_may_have_read(
    spark: SparkSession, mail_pipeline: Pipeline, mail_folder: Path
) -> None:
    first = [signal("d-0", "lake", "accepted"), signal("d-0", "lake", "clicked", hours=9)]
    signals = [*first, signal("d-4", "lake", "accepted", hours=3)]
    ingest(spark, mail_pipeline, write_signals(mail_folder, *signals))
    snapshot(spark, mail_pipeline, str(mail_folder / "snapshot"), 0.4)
    rows = pq.read_table(mail_folder / "snapshot" / "feedback.parquet").to_pylist()
    assert {row["doc_id"]: row["held_out"] for row in rows} == {"d-0": False, "d-4": True}


def test_an_unfinished_snapshot_is_written_again_and_one_without_feedback_is_empty(
    spark: SparkSession, mail_pipeline: Pipeline, mail_folder: Path
) -> None:
    with pytest.raises(TableError, match=r"there is no Delta table at .*feedback; run the job that writes it first"):
        snapshot(spark, mail_pipeline, str(mail_folder / "none"), 0.2)
    with pytest.raises(ConfigError, match=r"holdout_share 1 is no share"):
        snapshot(spark, mail_pipeline, str(mail_folder / "none"), 1)
    ingest(spark, mail_pipeline, write_signals(mail_folder, signal("d-0", "lake", "clicked")))
    unfinished = mail_folder / "unfinished" / "feedback.parquet"
    unfinished.mkdir(parents=True)
    (unfinished / "part.parquet").write_text("half of it")
    result = snapshot(spark, mail_pipeline, str(mail_folder / "unfinished"), 0.2)
    assert (result.counts["rows"], result.counts["held_out"]) == (1, 0)
    assert pq.read_table(unfinished).num_rows == 1
    assert sorted(path.name for path in (mail_folder / "unfinished").iterdir() if path.suffix != ".crc") == [
        "feedback.parquet",
        "snapshot.json",
    ]
    other = mail_pipeline.model_copy(update={"label_set": LabelSet.of("else")})
    for settings, share, changed in ((mail_pipeline, 0.3, "holdout_share"), (other, 0.2, "label set")):
        with pytest.raises(ConfigError, match=f"unfinished holds a snapshot with another {changed}; retrain under a"):
            snapshot(spark, settings, str(mail_folder / "unfinished"), share)


def test_feedback_stays_when_the_label_set_changes(
    spark: SparkSession, mail_pipeline: Pipeline, mail_folder: Path
) -> None:
    signals = [signal("d-0", "lake", "accepted"), signal("d-0", "spam", "rejected"), signal("d-1", "lake", "clicked")]
    ingest(spark, mail_pipeline, write_signals(mail_folder, *signals))
    tags = {row["doc_id"]: row for row in stored(mail_pipeline, "tags")}
    labels = (Label(name="lake", threshold=0.9, temperature=2.0), Label(name="boat"))
    changed = mail_pipeline.model_copy(update={"label_set": LabelSet(name="mail", labels=labels)})
    result = snapshot(spark, changed, str(mail_folder / "changed"), 0.2)
    counted = ("signals", "mapped", "dropped", "gone", "rows", "documents")
    assert [result.counts[name] for name in counted] == [2, 2, 1, 0, 2, 2]
    rows = {row["doc_id"]: row for row in pq.read_table(mail_folder / "changed" / "feedback.parquet").to_pylist()}
    for doc_id, row in rows.items():
        assert row["label"] == "lake"
        assert (row["propensity"], row["score"]) == (
            tags[doc_id]["propensities"]["lake"],
            tags[doc_id]["scores"]["lake"],
        )
    limited = snapshot(spark, mail_pipeline, str(mail_folder / "limited"), 0.2, max_source_share=0.5)
    assert limited.counts["over_share"] == 0, "one source alone always has all of the feedback"
    # Another pipeline's label set in the same tables is not one of its own.
    stranger = changed.model_copy(update={"name": "other"})
    empty = snapshot(spark, stranger, str(mail_folder / "empty"), 0.2)
    assert [empty.counts[name] for name in counted] == [0, 0, 0, 0, 0, 0]
    assert pq.read_table(mail_folder / "empty" / "feedback.parquet").num_rows == 0


def test_a_models_calibration_comes_and_goes_with_it_and_the_label_set_stays(
    spark: SparkSession, mail_pipeline: Pipeline, mail_folder: Path
) -> None:
    before = {row["doc_id"]: row for row in stored(mail_pipeline, "tags")}
    model = shutil.copytree(str(mail_pipeline.model), mail_folder / "model")
    labels = (Label(name="spam", threshold=0.999999), Label(name="lake", bias=30.0, threshold=0.999998))
    (model / CALIBRATION).write_text(LabelSet(labels=labels).to_yaml())
    promoted = mail_pipeline.model_copy(update={"model": str(model), "exploration": 0.0})
    tag_step(PipelineRun(spark, promoted, "run-2", precision="float32"))
    after = {row["doc_id"]: row for row in stored(mail_pipeline, "tags")}
    assert {row["label_set_hash"] for row in after.values()} == {mail_pipeline.label_set.hash}
    assert after["d-0"]["model_digest"] != before["d-0"]["model_digest"]
    for doc_id in TEXTS.keys() - {"blank"}:
        assert after[doc_id]["labels"] == ["lake"]
        assert after[doc_id]["scores"]["lake"] > 0.99 > before[doc_id]["scores"]["lake"]
        assert after[doc_id]["scores"]["spam"] == pytest.approx(before[doc_id]["scores"]["spam"], abs=1e-5)


@pytest.mark.long
def test_a_source_of_files_has_no_version_and_without_exploration_there_is_no_propensity(
    spark: SparkSession, mail_pipeline: Pipeline, mail_folder: Path
) -> None:
    (mail_folder / "mail.json").write_text('{"id": "f-0", "body": "a lake of text"}\n{"id": "f-1", "body": "a boat"}\n')
    source = mail_pipeline.source.model_copy(update={"path": str(mail_folder / "mail.json"), "format": "json"})
    settings = {"source": source, "exploration": 0.0, "tables": str(mail_folder / "other")}
    of_files = mail_pipeline.model_copy(update=settings)
    tag_step(PipelineRun(spark, of_files, "run-1", precision="float32"))
    signals = [signal(f"f-{number}", "lake", "accepted") for number in range(2)]
    ingest(spark, of_files, write_signals(mail_folder, *signals))
    result = snapshot(spark, of_files, str(mail_folder / "snapshot"), 0.01)
    assert result.tables["source"] == {"path": str(mail_folder / "mail.json"), "version": None}
    rows = pq.read_table(mail_folder / "snapshot" / "feedback.parquet").to_pylist()
    assert [row["propensity"] for row in rows] == [None, None]
    assert {row["doc_id"]: row["held_out"] for row in rows} == {"f-0": True, "f-1": False}
