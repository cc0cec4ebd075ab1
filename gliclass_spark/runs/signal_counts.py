"""Signals about a pipeline's label sets, counted without Spark: those that its retraining would learn from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gliclass_spark.config.catalog import table_path
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.runs.delta_reader import StorageOptions, delta_table, query, table_exists
from gliclass_spark.runs.history import used_label_sets

# Columns that a table of an earlier version lacks, as null.
_LATER_COLUMNS = {"labels": "case when false then make_array('') end", "propensities": "null"}
# 1 / taken is the weight of a decision by inverse propensity.
_DECISIONS_OF_MODEL = """
, decisions as (
    select doc_id, label, content_hash, max(case when chosen then propensity else 1 - propensity end) as taken
    from signals
    where has_label and label is not null and model_digest = {digest} and chosen is not null and propensity is not null
    group by doc_id, label, content_hash
)
select count(*) as decisions, coalesce(sum(1 / taken) * sum(1 / taken) / sum(1 / (taken * taken)), 0) as effective,
    (
        select count(distinct concat(doc_id, ' ', content_hash)) from signals
        where has_label and label is null and model_digest = {digest} and chosen is not null
            and propensities is not null
    ) as documents
from decisions where taken > 0
"""


@dataclass(frozen=True)
class DecisionCount:
    """Decisions of one model that have feedback and a propensity.

    decisions: those on labels. effective_sample_size: how many of equal weight these are worth under weights by inverse
    propensity. documents: those with one reward for all labels of a document.
    """

    decisions: int = 0
    effective_sample_size: float = 0.0
    documents: int = 0

    def may_suffice(self, needed: int) -> bool:
        """Return whether an effective sample size of `needed` is possible: that of documents depends on the models."""
        return max(self.effective_sample_size, self.documents) >= needed


def query_signals(pipeline: Pipeline, sql: str, storage_options: StorageOptions = None) -> list[dict[str, Any]]:
    """Return the rows of a query on the signals about the pipeline's present label set and its earlier ones.

    In the query they are named `signals`: the columns of `feedback`, `has_label` (whether the present label set has the
    label; or, of a signal about a document, all labels that it got) and `is_earlier` (whether the signal is about an
    earlier one). There are no rows without a table `feedback`. Raises TableError if it can't be read.
    """
    path = table_path(pipeline.tables, "feedback")
    if not table_exists(path, storage_options):
        return []
    label_set = pipeline.label_set
    earlier = used_label_sets(table_path(pipeline.tables, "runs"), pipeline.name, storage_options)
    hashes, labels = (", ".join(map(_quoted, names)) for names in (sorted({label_set.hash, *earlier}), label_set.names))
    table = delta_table(path, storage_options=storage_options)
    columns = {field.name for field in table.schema().fields}
    missing = "".join(f", {null} as {name}" for name, null in _LATER_COLUMNS.items() if name not in columns)
    # Not array_has_all alone: in a CASE, DataFusion's answers false, not null, for some null lists.
    signals = f"""
        select *,
            case when label is null then labels is null or array_has_all(make_array({labels}), labels)
                else label in ({labels}) end as has_label,
            label_set_hash <> {_quoted(label_set.hash)} as is_earlier
        from (select *{missing} from t where label_set_hash in ({hashes}))
    """  # noqa: S608 - quoted
    return query(table, f"with signals as ({signals}) {sql}")


def count_signals(pipeline: Pipeline, storage_options: StorageOptions = None) -> int:
    """Return the number of signals about the pipeline's labels, by its present label set and its earlier ones."""
    rows = query_signals(pipeline, "select count(*) as signals from signals where has_label", storage_options)
    return int(rows[0]["signals"]) if rows else 0


def count_decisions(pipeline: Pipeline, model_digest: str, storage_options: StorageOptions = None) -> DecisionCount:
    """Return how many decisions of a model have feedback that two models can be compared by, superseded ones too."""
    if "model_digest" not in feedback_columns(pipeline, storage_options):
        return DecisionCount()
    sql = _DECISIONS_OF_MODEL.format(digest=_quoted(model_digest))
    [row] = query_signals(pipeline, sql, storage_options)
    return DecisionCount(int(row["decisions"]), float(row["effective"]), int(row["documents"]))


def signals_trained_on(config: RetrainConfig) -> int:
    """Return the number of signals of the last finished retraining with the same labels, whatever the thresholds.

    The last one by the time of its snapshot: feedback that was deleted since an earlier one is not waited for.
    """
    latest = ("", 0)
    for marker in Path(config.work).glob("*/promote.json"):
        snapshot = json.loads((marker.parent / "snapshot" / "snapshot.json").read_text(encoding="utf-8"))
        if asks_the_same(snapshot, config):
            latest = max(latest, (snapshot.get("created_at", ""), snapshot["counts"]["signals"]))
    return latest[1]


def feedback_columns(pipeline: Pipeline, storage_options: StorageOptions = None) -> set[str]:
    """Return the names of the columns of the table `feedback`; none without the table."""
    path = table_path(pipeline.tables, "feedback")
    if not table_exists(path, storage_options):
        return set()
    return {field.name for field in delta_table(path, storage_options=storage_options).schema().fields}


def decisions_checked(config: RetrainConfig, model_digest: str) -> int:
    """Return the number of decisions of a champion that the last check of it knew."""
    checks = (json.loads(path.read_text(encoding="utf-8")) for path in Path(config.work).glob("*/champion_check.json"))
    return max((check["decisions"] for check in checks if check["champion"] == model_digest), default=0)


def asks_the_same(snapshot: Mapping[str, Any], config: RetrainConfig) -> bool:
    """Return whether a snapshot.json is about the labels that the pipeline has now."""
    label_set = config.pipeline.label_set
    if "question_hash" in snapshot:
        return bool(snapshot["question_hash"] == label_set.question_hash)
    # One of an earlier version.
    return bool(snapshot["label_set"] == json.loads(label_set.canonical_json))


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
