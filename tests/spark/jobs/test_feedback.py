"""Signals are ingested with their decisions."""

from __future__ import annotations

from pathlib import Path

import pytest
from feedback_signals import LONG_AGO, TEXTS, TOMORROW, signal, stored, version, write_signals
from pyspark.sql import SparkSession

from gliclass_spark.cli.app import main
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.errors import ConfigError, ErrorShareError, TableError
from gliclass_spark.labels import LabelSet
from gliclass_spark.spark.delta.lake import Lake
from gliclass_spark.spark.jobs.feedback.ingestion import IngestedSignals, ingest
from gliclass_spark.spark.jobs.feedback.snapshot import snapshot
from gliclass_spark.training.data.logged_decisions import read_decisions


def test_a_signal_is_ingested_once_with_its_decision(
    spark: SparkSession, mail_pipeline: Pipeline, mail_folder: Path
) -> None:
    tags = {row["doc_id"]: row for row in stored(mail_pipeline, "tags")}
    signals = [
        signal("d-0", "lake", "accepted"),
        signal("d-1", "spam", "rejected"),
        signal("d-2", "lake", "clicked"),
        signal("d-3", "lake", "rated", reward=-0.5),
        signal("d-4", "spam", "accepted", observed_at=LONG_AGO),
    ]
    first = ingest(spark, mail_pipeline, write_signals(mail_folder, *signals, signals[0]))
    assert first == IngestedSignals(read=6, new=5, duplicates=1, documents=0, late=1, contradicting=0, refused={})
    feedback = {row["doc_id"]: row for row in stored(mail_pipeline, "feedback")}
    for key, row in feedback.items():
        tag = tags[key]
        assert (row["label_set_hash"], row["content_hash"]) == (mail_pipeline.label_set.hash, tag["content_hash"])
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
    before = version(spark, mail_pipeline)
    second = ingest(spark, mail_pipeline, str(mail_folder / "signals.jsonl"))
    assert (second.read, second.new, second.duplicates, second.late) == (6, 0, 6, 0)
    assert version(spark, mail_pipeline) == before


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
    spark: SparkSession, mail_pipeline: Pipeline, mail_folder: Path
) -> None:
    invalid = [signal("d-0", "lake", "clicked") | {"reward": None, **fields} for fields in INVALID.values()]
    invalid += [signal("d-0", "lake", "rated", reward=reward) for reward in ("1.5", "-2", "much")]
    path = write_signals(mail_folder, *invalid, signal("d-0", "lake", "accepted"))
    with pytest.raises(ErrorShareError, match=r"14 of 15 signals are refused, a share of 0.933, at most 0.5 "):
        ingest(spark, mail_pipeline, path)
    assert not Lake(mail_pipeline.tables).exists(spark, "feedback")
    result = ingest(spark, mail_pipeline, path, max_error_ratio=1.0)
    assert {reason: refused.count for reason, refused in result.refused.items()} == {
        **dict.fromkeys(INVALID, 1),
        "reward is no number from -1 to 1": 4,
    }
    assert '"doc_id":"d-99"' in result.refused["unknown doc_id"].example
    assert (result.read, result.new, result.duplicates) == (15, 1, 0)


@pytest.mark.long
def test_signals_are_read_from_csv_parquet_delta_and_folders_of_them(
    spark: SparkSession, mail_pipeline: Pipeline, mail_folder: Path
) -> None:
    rows = [("d-0", "lake", "rated", 0.5, "ui", TOMORROW), ("d-1", "lake", "rated", 0.25, "ui", TOMORROW)]
    frame = spark.createDataFrame(
        rows, "doc_id string, label string, verdict string, reward double, source string, observed_at timestamp"
    ).coalesce(1)
    frame.write.parquet(str(mail_folder / "parquet"))
    frame.write.format("delta").save(str(mail_folder / "delta"))
    frame.withColumn("observed_at", frame.observed_at.cast("string")).write.option("header", "true").csv(
        str(mail_folder / "csv")
    )
    news = [ingest(spark, mail_pipeline, str(mail_folder / kind)).new for kind in ("parquet", "delta", "csv")]
    assert news == [2, 0, 0]

    bare = frame.drop("label").where("doc_id = 'd-1'")
    bare.write.parquet(str(mail_folder / "bare"))
    ingested = ingest(spark, mail_pipeline, str(mail_folder / "bare"))
    assert (ingested.new, ingested.documents) == (1, 1), "without the column, a signal is about the whole document"
    (mail_folder / "short.csv").write_text("doc_id,label\nd-0,lake\n")
    with pytest.raises(TableError, match=r"column 'verdict' is missing; signals have .* found doc_id, label"):
        ingest(spark, mail_pipeline, str(mail_folder / "short.csv"))
    with pytest.raises(TableError, match=r"none.csv holds nothing; give a Delta table, a file of signals"):
        ingest(spark, mail_pipeline, str(mail_folder / "none.csv"))
    with pytest.raises(TableError, match=r"mail.yaml holds mail.yaml; give a Delta table, a file of signals"):
        ingest(spark, mail_pipeline, str(mail_folder / "mail.yaml"))


def test_the_command_prints_the_counts_of_signals(
    spark: SparkSession, mail_pipeline: Pipeline, mail_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    both = [signal("d-0", "lake", "accepted"), signal("d-0", "lake", "rejected"), signal("d-9", "lake", "clicked")]
    arguments = ["feedback", str(mail_folder / "mail.yaml"), write_signals(mail_folder, *both)]
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


def test_feedback_without_a_label_judges_all_labels_of_a_document(
    spark: SparkSession, mail_pipeline: Pipeline, mail_folder: Path
) -> None:
    tags = {row["doc_id"]: row for row in stored(mail_pipeline, "tags")}
    whole = {"label": None}
    signals = [
        signal("d-0", "lake", "accepted") | whole,
        signal("d-1", "lake", "rejected", hours=1) | {"label": " "},
        signal("d-2", "lake", "rated", hours=2, reward=0.25) | whole,
        signal("d-2", "lake", "rejected", hours=2),
        signal("d-3", "lake", "clicked", observed_at=LONG_AGO) | whole,
        signal("blank", "lake", "accepted") | whole,
    ]
    path = write_signals(mail_folder, *signals)
    first = ingest(spark, mail_pipeline, path)
    assert (first.new, first.documents, first.late) == (5, 4, 1)
    assert {reason: refused.count for reason, refused in first.refused.items()} == {
        "the document could not be scored": 1
    }
    assert ingest(spark, mail_pipeline, path).duplicates == 5, "a missing label is a key, too"
    feedback = {(row["doc_id"], row["label"]): row for row in stored(mail_pipeline, "feedback")}
    for doc_id, reward in (("d-0", 1.0), ("d-1", -1.0), ("d-2", 0.25)):
        row, tag = feedback[doc_id, None], tags[doc_id]
        assert (row["chosen"], row["reward"], row["score"], row["propensity"]) == (True, reward, None, None)
        assert (row["labels"], row["scores"]) == (sorted(tag["labels"]), tag["scores"])
        assert row["propensities"] == tag["propensities"]
    for key in (("d-2", "lake"), ("d-3", None)):
        assert [feedback[key][name] for name in ("labels", "scores", "propensities")] == [None] * 3

    result = snapshot(spark, mail_pipeline, str(mail_folder / "snapshot"), 0.3)
    counted = ("signals", "late", "decisions", "unknown", "rows", "rewarded_documents", "documents", "held_out")
    assert [result.counts[name] for name in counted] == [5, 1, 5, 1, 4, 3, 3, 1]
    decisions = read_decisions(mail_folder / "snapshot")
    texts = dict(zip(decisions.texts, range(len(decisions)), strict=True))
    rows = [texts[TEXTS[doc_id]] for doc_id in ("d-0", "d-1", "d-2")]
    assert decisions.document_rewards[rows].tolist() == [1.0, -1.0, 0.25]
    assert decisions.held_out[rows].tolist() == [False, False, True]
    spam, lake = (decisions.label_set.names.index(name) for name in ("spam", "lake"))
    assert decisions.actions[rows[0], spam] == ("spam" in tags["d-0"]["labels"])
    assert decisions.propensities[rows[1], lake] == pytest.approx(tags["d-1"]["propensities"]["lake"])
    assert decisions.targets[rows].tolist() == [[-1, -1], [-1, -1], [-1, 0] if lake == 1 else [0, -1]]

    # A label set that has not all of the labels that a document got can't say whether they were right together.
    changed = mail_pipeline.model_copy(update={"label_set": LabelSet.of("lake", name="mail")})
    mapped = snapshot(spark, changed, str(mail_folder / "changed"), 0.3)
    had_spam = sum("spam" in tags[doc_id]["labels"] for doc_id in ("d-0", "d-1", "d-2"))
    assert mapped.counts["dropped"] == had_spam
    assert mapped.counts["rewarded_documents"] == 3 - had_spam
    with pytest.raises(ConfigError, match=r"snapshot with another feedback.resolve; retrain under a new run id"):
        snapshot(spark, mail_pipeline, str(mail_folder / "snapshot"), 0.3, resolve="majority")
