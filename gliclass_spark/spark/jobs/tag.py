"""The tag job: scores of new and changed documents into `tags`. The only job that loads a model.

When all texts are scored (see `tag_steps.scoring_queue`), and not too many failed, one commit merges the scores into
`tags`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial, reduce
from math import ceil

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.checkpoints.files import CALIBRATION
from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.labels import calibrated
from gliclass_spark.runs.manifest import Manifest
from gliclass_spark.runs.settings import tag_settings
from gliclass_spark.spark.delta import table_creation, writes
from gliclass_spark.spark.delta.schema import KEY, TAGS, TAGS_SPEC
from gliclass_spark.spark.jobs.job_run import Job, claimed_job, finished_job
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun
from gliclass_spark.spark.jobs.tag_steps.scoring_queue import Scored, score_pending
from gliclass_spark.spark.jobs.tag_steps.tag_check import check
from gliclass_spark.spark.jobs.tag_steps.tag_counts import check_errors, verify_tags
from gliclass_spark.spark.jobs.tag_steps.tag_input import TagInput, live_tags, read_input
from gliclass_spark.spark.transforms import exploring

_TAG_KEY = (KEY, "label_set_hash")
# Many small files cost every reader time.
_FILE_ROWS = 10_000


def tag_step(run: PipelineRun) -> Manifest:
    """Score new and changed documents (see `PipelineRun.retag`), and write tombstones for deleted ones.

    Raises ErrorShareError, with nothing committed to `tags`, if more than `max_error_ratio` of the texts failed.
    """
    run = run.in_own_session()
    recent = run.runs.recent()
    model = check(run, recent)
    source = run.documents.delta
    settings = tag_settings(run.pipeline, model.digest, run.retag)
    if (finished := finished_job(run, "tag", settings, recent)) is not None:
        return finished

    with claimed_job(run, "tag", settings, recent, model_digest=model.digest) as job:
        if run.retag == "all":
            job.decide_all()
        job.fence(["tags", "staged"])
        tag_input = read_input(job, source, model)
        job.facts |= {
            "rows_in": tag_input.changed_count,
            "tagged": tag_input.counts.documents,
            "full_scan": tag_input.full_scan,
            "model_loads": 0,
        }
        scored = _score(job, tag_input, model) if tag_input.counts.documents else None
        appended = _merge(job, tag_input, scored.rows if scored is not None else None, model)
        counts = verify_tags(job, tag_input.version.until, appended=appended)
        if scored is not None and scored.is_staged:
            job.truncate("staged")
        read = job.versions_read(tag_input.full_scan, source=(source, tag_input.version))
        tag_counts = {"retagged": tag_input.counts.live_rows, "tombstoned": tag_input.deleted_count, **counts}
        outputs = run.lake.latest(run.spark, ["tags"])
        return job.succeed(outputs=outputs, **{**job.facts, **tag_counts, **read})


def _score(job: Job, tag_input: TagInput, model: ModelRef) -> Scored:
    """Return the rows of `tags` for the pending documents, scored and checked."""
    scored = score_pending(job, tag_input, model)
    pipeline = job.run.pipeline
    if pipeline.exploration:  # otherwise the workers have decided, by thresholds
        label_set = calibrated(pipeline.label_set, model.folder / CALIBRATION)
        decided = exploring.decide_labels(scored.rows, label_set, pipeline.exploration)
        scored = replace(scored, rows=job.cache(decided))
    check_errors(job, scored, tag_input.counts.documents)
    return scored


def _merge(job: Job, tag_input: TagInput, scored: DataFrame | None, model: ModelRef) -> bool:
    """Merge scored rows and tombstones into `tags`. Return whether rows were appended alone, or none written."""
    run, counts = job.run, tag_input.counts
    with job.timed("write"):
        table_creation.ensure(run.spark, run.lake.table("tags"), run.spec(TAGS_SPEC))
        rows = [scored.withColumn("run_id", F.lit(run.run_id))] if scored is not None else []
        changed = _changed_decisions(job, tag_input, model) if job.base is None else []
        if rows and not counts.rows and not changed and not job.contested:
            # A MERGE would read the table twice to find that out. But it sees rows that an earlier run, which may be
            # alive, writes at this moment.
            job.append("tags", rows[0].coalesce(ceil(counts.documents / _FILE_ROWS)))
        elif rows or changed:
            job.change("tags", partial(writes.upsert, rows=reduce(DataFrame.unionByName, rows + changed), key=_TAG_KEY))
        if tag_input.deleted_count:
            job.change("tags", partial(writes.write_tombstones, deleted=tag_input.deleted, run_id=run.run_id))
    return not (counts.rows or changed or job.contested or tag_input.deleted_count)


def _changed_decisions(job: Job, tag_input: TagInput, model: ModelRef) -> list[DataFrame]:
    """Return the existing rows whose labels change with the pipeline's exploration share; an empty list if none do."""
    if tag_input.tags is None:
        return []
    pipeline = job.run.pipeline
    existing = live_tags(job.run).select(*TAGS.names).join(tag_input.pending, KEY, "left_anti")
    label_set = calibrated(pipeline.label_set, model.folder / CALIBRATION)
    if label_set is not pipeline.label_set:  # the thresholds of this model alone
        existing = existing.where(F.col("model_digest") == model.digest)
    changed = job.cache(exploring.changed_decisions(existing, label_set, pipeline.exploration))
    count = changed.count()
    if not count:
        return []
    job.notes.append(f"the labels of {count} documents were decided again, from their existing scores")
    return [changed]
