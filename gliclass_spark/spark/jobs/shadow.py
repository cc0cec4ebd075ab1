"""The shadow job: another model tags the documents of the latest run into a table of its own, and is compared.

Nothing that the pipeline decides by is touched: `shadow_tags` is read by nobody else.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import TableError
from gliclass_spark.runs.manifest import SHADOW, SUCCEEDED, Manifest
from gliclass_spark.runs.settings import shadow_settings
from gliclass_spark.runs.shadow_comparison import ShadowComparison, comparison_path
from gliclass_spark.spark.delta import file_system, table_creation, writes
from gliclass_spark.spark.delta.schema import KEY, SHADOW_TAGS_SPEC
from gliclass_spark.spark.jobs.job_run import Job, claimed_job, finished_job
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun
from gliclass_spark.spark.jobs.shadow_steps.tag_comparison import (
    count_scores,
    decision_changes,
    difference_histogram,
    differing_documents,
    joined_tags,
    label_differences,
    score_facts,
)
from gliclass_spark.spark.jobs.tag_steps.scoring_queue import worker_settings
from gliclass_spark.spark.source import with_content
from gliclass_spark.spark.transforms import tagging

SHADOW_TAGS = "shadow_tags"
MAX_DOCUMENTS = 10_000


def shadow(run: PipelineRun, model_uri: str, max_documents: int = MAX_DOCUMENTS) -> ShadowComparison:
    """Tag the documents that the latest run has scored with another model, into `shadow_tags`, and compare both.

    Of more than `max_documents` documents, those with the smallest hashes of their ids. The manifest of the job
    "shadow" has the run's id; rows of the same run and model are replaced, and not scored again once it has succeeded.
    The comparison is written beside the run's report, which shows it.
    Raises TableError without such a run, ModelNotFoundError, CheckpointError.
    """
    recent = run.runs.recent()
    tagged_run = _latest_tagged(run, recent)
    run = replace(run, run_id=tagged_run.run_id).in_own_session()
    model = resolve_model(model_uri, registry=run.registry)
    settings = shadow_settings(run.pipeline, model.digest, max_documents)
    tagged = _tagged(run, tagged_run, max_documents).persist()
    documents = run.documents.read(tagged_run.inputs["source"].until).join(tagged.select(KEY), KEY, "left_semi")
    contents = _unchanged(with_content(documents, run.pipeline.source.text), tagged)
    try:
        if finished_job(run, SHADOW, settings, recent) is None:
            with claimed_job(run, SHADOW, settings, recent, model_digest=model.digest) as job:
                _score(job, model, tagged, contents)
        comparison = _compare(run, model, tagged_run, tagged, documents, contents)
    finally:
        tagged.unpersist()
    path = comparison_path(run.pipeline, run.run_id)
    if path is not None:
        file_system.write_text(run.spark, path, comparison.to_json())
    return comparison


def _latest_tagged(run: PipelineRun, recent: list[Manifest]) -> Manifest:
    """Return the latest tag job that scored documents. Raises TableError if there is none with this label set."""
    succeeded = [row for row in recent if (row.job, row.status) == ("tag", SUCCEEDED) and row.scored]
    latest = max(succeeded, key=lambda row: row.sequence, default=None)
    if latest is None or latest.label_set_hash != run.pipeline.label_set.hash:
        raise TableError(
            f"{run.title}: no run has scored documents with label set {run.pipeline.label_set.name!r} as it is now; "
            "run the pipeline first"
        )
    return latest


def _tagged(run: PipelineRun, tagged_run: Manifest, max_documents: int) -> DataFrame:
    """Return the rows of `tags` to compare with: those of the run, whose labels were not drawn by exploration."""
    tags = run.lake.table("tags").read(run.spark, tagged_run.outputs["tags"].until)
    of_run = (F.col("run_id") == tagged_run.run_id) & (F.col("label_set_hash") == tagged_run.label_set_hash)
    is_scored = F.col("deleted_at").isNull() & F.col("error").isNull()
    if "explored" in tags.columns:
        is_scored &= ~F.coalesce("explored", F.lit(False))
    return tags.where(of_run & is_scored).orderBy(F.xxhash64(KEY), KEY).limit(max_documents)


def _unchanged(contents: DataFrame, tagged: DataFrame) -> DataFrame:
    """Return the contents whose text is the one that was tagged: a source without versions may have changed since."""
    return contents.join(tagged.select(KEY, "content_hash"), [KEY, "content_hash"], "left_semi")


def _score(job: Job, model: ModelRef, tagged: DataFrame, contents: DataFrame) -> None:
    """Score the documents, replace their rows in `shadow_tags`, and record the job."""
    run = job.run
    job.fence([SHADOW_TAGS])
    with job.timed("score"):
        count = tagged.count()
        label_set, settings = run.pipeline.label_set, worker_settings(run, model)
        scored = tagging.tag(contents, count, label_set, settings, run.run_id)
        rows = job.cache(scored.withColumn("model", F.lit(model.uri)))
        codes = rows.where("error IS NOT NULL").groupBy("error.code").count().collect()
        scored_count = rows.count()
    with job.timed("write"):
        table_creation.ensure(run.spark, run.lake.table(SHADOW_TAGS), run.spec(SHADOW_TAGS_SPEC))
        of_model = {"run_id": run.run_id, "model_digest": model.digest}
        job.change(SHADOW_TAGS, partial(writes.replace_selected, rows=rows, selected=of_model))
    if scored_count < count:
        job.notes.append(f"{count - scored_count} of {count} documents have changed since and are left out")
    job.succeed(
        rows_in=count,
        tagged=scored_count,
        errors={row["code"]: row["count"] for row in codes},
        outputs=run.lake.latest(run.spark, [SHADOW_TAGS]),
        **score_facts(count_scores(joined_tags(tagged, rows)), label_set.names),
    )


def _compare(
    run: PipelineRun,
    model: ModelRef,
    tagged_run: Manifest,
    tagged: DataFrame,
    documents: DataFrame,
    contents: DataFrame,
) -> ShadowComparison:
    rows = run.lake.read(run.spark, SHADOW_TAGS)
    own = rows.where((F.col("run_id") == run.run_id) & (F.col("model_digest") == model.digest))
    shadow_tags = own.join(tagged.select(KEY), KEY, "left_semi").persist()
    joined = joined_tags(tagged, shadow_tags)
    counts = count_scores(joined)
    [totals] = joined.agg(
        F.count("*").alias("documents"),
        F.count_if(F.array_sort("t.labels") == F.array_sort("s.labels")).alias("same"),
    ).collect()
    comparison = ShadowComparison(
        run_id=run.run_id,
        model=model.uri,
        model_digest=model.digest,
        tagged_by=str(tagged_run.model_digest),
        documents=totals["documents"],
        same_labels=totals["same"],
        errors=shadow_tags.where("error IS NOT NULL").count(),
        labels=label_differences(counts),
        differences=difference_histogram(counts),
        decisions=decision_changes(run, documents, tagged, shadow_tags),
        examples=differing_documents(joined, contents),
    )
    shadow_tags.unpersist()
    return comparison
