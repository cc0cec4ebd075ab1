"""Counts of the tag job: errors before the merge, and the contents of `tags` after it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.errors import ErrorShareError, ManifestError, TableError
from gliclass_spark.runs.manifest import HISTOGRAM_BINS
from gliclass_spark.spark.delta.change_feed import UnreadableFeedError, unreadable_feed_errors
from gliclass_spark.spark.jobs.job_run import Job
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun
from gliclass_spark.spark.jobs.tag_steps.scoring_queue import ERROR_CODE, Scored, keep_scores
from gliclass_spark.spark.jobs.tag_steps.tag_input import live_tags
from gliclass_spark.spark.source_files import UNREADABLE_ROW


def check_errors(job: Job, scored: Scored, expected_count: int) -> None:
    """Check scored rows before they are merged.

    Raises TableError if a text is missing, ErrorShareError if more than `max_error_ratio` of the texts failed.
    """
    run = job.run
    counts = {row["code"]: row["count"] for row in scored.outcomes}
    row_count = sum(counts.values())
    if row_count != expected_count:
        raise TableError(
            f"{run.documents.name} changed while it was read: {expected_count} texts were to be tagged, {row_count} of "
            "them are still there; run it again (a Delta source is read at one version, and can be written meanwhile)"
        )
    errors = _without_success(counts)
    job.facts["errors"] = errors
    failed, allowed = sum(errors.values()), run.pipeline.max_error_ratio
    if failed > allowed * expected_count:
        keep_scores(job, scored.rows)  # until the source, or the limit, is fixed
        # A file with such a record. Its text stays out of logs and of `runs`.
        examples = {row["code"]: f", as in {row['file']}" for row in scored.outcomes if row["code"] == UNREADABLE_ROW}
        listed = ", ".join(f"{code}: {count}{examples.get(code, '')}" for code, count in errors.items())
        raise ErrorShareError(
            f"{failed} of {expected_count} texts could not be scored ({listed}): a share of "
            f"{failed / expected_count:.3f}, at most {allowed} is allowed; nothing was tagged. Fix the source, or "
            "raise max_error_ratio"
        )


def verify_tags(job: Job, source_version: int | None, *, appended: bool) -> dict[str, Any]:
    """Return the manifest's counts of `tags`, read back from the table.

    appended: whether the job has changed no row that was there. Raises ManifestError unless the table has tags of
    exactly as many documents as the source has at this version; without versions (None) it is not compared.
    """
    run = job.run
    with job.timed("check"):
        counted = _count_appended(job) if appended else None
        rows, earlier_count = counted or (_counted_scores(run, live_tags(run)), 0)
        tagged_count = earlier_count + sum(row["documents"] for row in rows)
        expected_count = run.documents.count(source_version) if source_version is not None else tagged_count
    if tagged_count != expected_count:
        raise ManifestError(
            f"run {run.run_id!r}, tag: expected tags of {expected_count} documents, found {tagged_count}; another "
            "writer changed `tags`: run tag again with --full"
        )
    own = [row for row in rows if row["own"]]
    codes: Counter[str] = Counter()
    for row in own:
        codes[row["code"]] += row["documents"]
    label_counts, histograms = _label_statistics(own, run.pipeline.label_set.names) if own else ({}, {})
    return {
        "tagged": codes.total(),
        "errors": _without_success(codes),
        "label_counts": label_counts,
        "score_histograms": histograms,
        "documents": tagged_count,
    }


def _count_appended(job: Job) -> tuple[list[Row], int] | None:
    """Return the counts of this run's rows, by the table's change data feed, and how many documents had tags before.

    None without a base, without a feed, or if another writer changed rows since the base: then all are to be counted.
    """
    run, base, table = job.run, job.base, job.run.lake.table("tags")
    if base is None or base.documents is None:
        return None
    versions, latest = base.outputs["tags"], table.latest(run.spark)
    if latest == versions:
        return [], base.documents
    with suppress(UnreadableFeedError), unreadable_feed_errors():
        feed = table.change_feed(run.spark, replace(latest, since=versions.until))
        rows = _counted_scores(run, feed.where(F.col("label_set_hash") == run.pipeline.label_set.hash))
        if all(row["own"] for row in rows):
            return rows, base.documents
    return None


def _counted_scores(run: PipelineRun, tags: DataFrame) -> list[Row]:
    """Return counts of rows of `tags`, and of the scores of those that this run wrote, in one scan.

    Rows: own (whether this run wrote them), code (of their error), label, bin (of the histogram) and has_label (null
    for rows without scores, or of earlier runs), scores and documents (their numbers).
    """
    own = F.col("run_id") == run.run_id
    # One row per score of the run's own rows, and one for any other row: `index` is 0 or null in one row per document.
    scores = F.posexplode_outer(F.when(own, F.col("scores"))).alias("index", "label", "score")
    exploded = tags.select(own.alias("own"), F.expr(ERROR_CODE).alias("code"), "labels", scores)
    score_bin = F.least(F.floor(F.col("score") * HISTOGRAM_BINS), F.lit(HISTOGRAM_BINS - 1))
    has_label = F.expr("array_contains(labels, label)")
    grouped = exploded.groupBy("own", "code", "label", score_bin.alias("bin"), has_label.alias("has_label"))
    is_first = F.coalesce(F.col("index"), F.lit(0)) == 0
    return grouped.agg(F.count("label").alias("scores"), F.count_if(is_first).alias("documents")).collect()


def _label_statistics(own: list[Row], labels: Sequence[str]) -> tuple[dict[str, int], dict[str, list[int]]]:
    """Return how many documents of the run have each label, and the histogram of each label's scores."""
    label_counts = dict.fromkeys(labels, 0)
    histograms = {label: [0] * HISTOGRAM_BINS for label in labels}
    for row in own:
        if row["label"] is not None:
            histograms[row["label"]][row["bin"]] += row["scores"]
            label_counts[row["label"]] += row["scores"] if row["has_label"] else 0
    return label_counts, histograms


def _without_success(counts: Mapping[str, int]) -> dict[str, int]:
    return {code: count for code, count in counts.items() if code}
