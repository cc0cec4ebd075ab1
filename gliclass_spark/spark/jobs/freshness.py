"""Whether a pipeline's tables are up to date with its source, settings and model."""

from __future__ import annotations

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.runs.manifest import Manifest
from gliclass_spark.spark.delta.runs_table import last_success
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun
from gliclass_spark.spark.jobs.tag_steps.tag_input import tag_settings_hash


def up_to_date(run: PipelineRun) -> bool:
    """Return whether a run would change nothing. Always False for a source without versions."""
    source = run.documents.delta
    if source is None:
        return False
    recent, label_set_hash = run.runs.recent(), run.pipeline.label_set.hash
    last = {job: last_success(recent, job, label_set_hash=label_set_hash) for job in run.pipeline.steps}
    tagged, filtered, routed = last.get("tag"), last.get("filter"), last.get("route")
    if tagged is None or not all(last.values()):
        return False
    model_changed = resolve_model(run.pipeline.model, registry=run.registry).digest != tagged.model_digest
    if model_changed or tagged.settings_hash != tag_settings_hash(run, tagged.model_digest):
        return False
    source_read, latest = tagged.inputs["source"], source.latest(run.spark)
    return (
        source_read.until == latest.until
        and source.discontinuity(run.spark, source_read, tagged.commits.get("source"), latest) is None
        and _has_followed(run, filtered, tagged, "tags")
        and _has_followed(run, routed, filtered, "kept")
    )


def _has_followed(run: PipelineRun, job: Manifest | None, upstream: Manifest | None, table: str) -> bool:
    """Return whether a job has decided, by the current rules, about all that the upstream job wrote to the table.

    True for a job that the pipeline does not have.
    """
    if job is None or upstream is None:
        return True
    same_source = "source" not in job.inputs or job.inputs["source"].until == upstream.inputs["source"].until
    return (
        job.rules_hash == run.pipeline.rules.hash
        and same_source
        and job.inputs[table].until == upstream.outputs[table].until
    )
