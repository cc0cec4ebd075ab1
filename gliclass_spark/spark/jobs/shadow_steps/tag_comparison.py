"""Comparison of two models' tags of the same texts: labels, scores, and the decisions that would change."""

from __future__ import annotations

from collections import Counter, defaultdict
from typing import Any

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.runs.manifest import HISTOGRAM_BINS
from gliclass_spark.runs.shadow_comparison import (
    DIFFERENCE_BINS,
    DecisionChange,
    DifferingDocument,
    LabelDifference,
)
from gliclass_spark.spark.delta.schema import KEY
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun
from gliclass_spark.spark.jobs.plan import OUTCOMES, with_outcomes
from gliclass_spark.spark.transforms.rule_expressions import lenient_sql

EXAMPLES = 10
_EXCERPT_CHARS = 280


def joined_tags(tagged: DataFrame, shadow: DataFrame) -> DataFrame:
    """Return doc_id, and scores and labels by both models as structs `t` and `s`, of documents that both scored."""
    sides = [
        rows.where("error IS NULL").select(KEY, F.struct("scores", "labels").alias(name))
        for rows, name in ((tagged, "t"), (shadow, "s"))
    ]
    return sides[0].join(sides[1], KEY)


def count_scores(joined: DataFrame) -> list[Row]:
    """Return the number of scores of each label, by what both models decide and by the bins of score and difference.

    One query. Columns: label, by_tagged, by_shadow (whether the model gives the label), score_bin (of the other model),
    difference_bin, total (the sum of the differences), documents.
    """
    scores = joined.select("*", F.explode(F.map_keys("s.scores")).alias("label"))
    score, before = (F.element_at(f"{side}.scores", F.col("label")) for side in ("s", "t"))
    difference = score - before
    bins = {
        "score_bin": F.least(F.floor(score * HISTOGRAM_BINS), F.lit(HISTOGRAM_BINS - 1)),
        "difference_bin": F.least(F.floor((difference + 1) / 2 * DIFFERENCE_BINS), F.lit(DIFFERENCE_BINS - 1)),
    }
    given = {f"by_{name}": F.array_contains(f"{side}.labels", F.col("label")) for name, side in _SIDES}
    grouped = scores.select("label", difference.alias("difference"), *(c.alias(n) for n, c in (bins | given).items()))
    counts = F.count("*").alias("documents"), F.sum("difference").alias("total")
    return grouped.groupBy("label", *bins, *given).agg(*counts).collect()


_SIDES = (("tagged", "t"), ("shadow", "s"))


def label_differences(counts: list[Row]) -> tuple[LabelDifference, ...]:
    """Return the labels, those that change most documents first."""
    by_label: defaultdict[str, Counter[str]] = defaultdict(Counter)
    totals: defaultdict[str, float] = defaultdict(float)
    for row in counts:
        facts = by_label[row["label"]]
        facts["documents"] += row["documents"]
        totals[row["label"]] += row["total"]
        facts["tagged"] += row["documents"] * row["by_tagged"]
        facts["shadow"] += row["documents"] * row["by_shadow"]
        facts["only_tagged"] += row["documents"] * (row["by_tagged"] and not row["by_shadow"])
        facts["only_shadow"] += row["documents"] * (row["by_shadow"] and not row["by_tagged"])
    differences = [
        LabelDifference(
            label,
            facts["tagged"],
            facts["shadow"],
            facts["only_tagged"],
            facts["only_shadow"],
            totals[label] / facts["documents"],
        )
        for label, facts in by_label.items()
    ]
    return tuple(sorted(differences, key=lambda row: (-row.only_tagged - row.only_shadow, row.label)))


def difference_histogram(counts: list[Row]) -> tuple[int, ...]:
    """Return the histogram of all differences of scores."""
    bins = [0] * DIFFERENCE_BINS
    for row in counts:
        bins[row["difference_bin"]] += row["documents"]
    return tuple(bins)


def score_facts(counts: list[Row], labels: tuple[str, ...]) -> dict[str, Any]:
    """Return the manifest's label_counts and score_histograms of the other model."""
    label_counts, histograms = dict.fromkeys(labels, 0), {label: [0] * HISTOGRAM_BINS for label in labels}
    for row in counts:
        label_counts[row["label"]] += row["documents"] * row["by_shadow"]
        histograms[row["label"]][row["score_bin"]] += row["documents"]
    return {"label_counts": label_counts, "score_histograms": histograms}


def decision_changes(
    run: PipelineRun, documents: DataFrame, tagged: DataFrame, shadow: DataFrame
) -> tuple[DecisionChange, ...]:
    """Return the outcomes that the rules would change, the most frequent change first."""
    if "filter" not in run.pipeline.steps:
        return ()
    with lenient_sql(run.spark):
        before, now = (
            with_outcomes(run, documents, tags).select(KEY, F.array_join(OUTCOMES, ", ").alias(name))
            for tags, name in ((tagged, "before"), (shadow, "now"))
        )
        changes = before.join(now, KEY).where("before <> now").groupBy("before", "now").count().collect()
    rows = [DecisionChange(row["before"], row["now"], row["count"]) for row in changes]
    return tuple(sorted(rows, key=lambda row: (-row.documents, row.before, row.now)))


def differing_documents(joined: DataFrame, contents: DataFrame) -> tuple[DifferingDocument, ...]:
    """Return the documents with different labels whose scores differ most, EXAMPLES at most."""
    keys = F.map_keys("s.scores")
    largest = F.array_max(
        F.transform(keys, lambda key: F.abs(F.element_at("s.scores", key) - F.element_at("t.scores", key)))
    )
    differs = F.array_sort("t.labels") != F.array_sort("s.labels")
    rows = joined.where(differs).withColumn("difference", largest).orderBy(F.desc("difference"), KEY).limit(EXAMPLES)
    text = F.substring(F.decode("text", "UTF-8"), 1, _EXCERPT_CHARS).alias("text")
    with_text = rows.join(contents.select(KEY, text), KEY)
    documents = [
        DifferingDocument(
            row[KEY], row["text"], tuple(row["t"]["labels"]), tuple(row["s"]["labels"]), float(row["difference"])
        )
        for row in with_text.collect()
    ]
    return tuple(sorted(documents, key=lambda document: (-document.difference, document.doc_id)))
