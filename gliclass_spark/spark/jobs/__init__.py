"""The jobs of a run: read, transform, write, count, and write down what was done.

Reading and writing happen here and in `tables`; `tag`, `filter` and `route` of the package above only
say what follows from what.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.runs.manifest import Manifest
from gliclass_spark.spark.delta.runs_table import last_success
from gliclass_spark.spark.jobs.filter import filter_step
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun
from gliclass_spark.spark.jobs.route import route_step
from gliclass_spark.spark.jobs.tag import tag_settings, tag_step

STEPS: dict[str, Callable[[PipelineRun], Manifest]] = {"tag": tag_step, "filter": filter_step, "route": route_step}


def up_to_date(run: PipelineRun) -> bool:
    """Whether a run would find nothing to do. A source without versions can't tell: never, then."""
    source = run.documents.delta
    if source is None:
        return False
    known, asked = run.runs.recent(), run.pipeline.label_set.hash
    done = {job: last_success(known, job, label_set_hash=asked) for job in run.pipeline.steps}
    tagged, filtered, routed = done.get("tag"), done.get("filter"), done.get("route")
    if tagged is None or not all(done.values()):
        return False
    moved = resolve_model(run.pipeline.model, registry=run.registry).digest != tagged.model_digest
    if moved or tagged.settings_hash != tag_settings(run, tagged.model_digest):
        return False
    read_all = tagged.inputs["source"] == replace(source.latest(run.spark), since=tagged.inputs["source"].since)
    return read_all and _follows(run, filtered, tagged, "tags") and _follows(run, routed, filtered, "kept")


def _follows(run: PipelineRun, job: Manifest | None, before: Manifest | None, table: str) -> bool:
    """Whether a job, if the pipeline has it, has decided by today's rules about all that the one before it left."""
    if job is None or before is None:
        return True
    same_source = "source" not in job.inputs or job.inputs["source"].until == before.inputs["source"].until
    return (
        job.rules_hash == run.pipeline.rules.hash
        and same_source
        and job.inputs[table].until == before.outputs[table].until
    )


__all__ = ["STEPS", "PipelineRun", "filter_step", "route_step", "tag_step", "up_to_date"]
