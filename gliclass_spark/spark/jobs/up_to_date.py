"""Whether a run would change anything, checked in a Spark session."""

from __future__ import annotations

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.runs import freshness
from gliclass_spark.runs.manifest import VersionRange
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun
from gliclass_spark.spark.jobs.run_date import date_settings


def is_up_to_date(run: PipelineRun) -> bool:
    """Return whether a run would change nothing. Always False for a source without versions."""
    source, spark = run.documents.delta, run.spark
    if source is None:
        return False

    def is_latest(name: str, versions: VersionRange, commit: str | None) -> bool:
        table = source if name == "source" else run.lake.table(name)
        latest = table.latest(spark)
        return latest.until == versions.until and table.discontinuity(spark, versions, commit, latest) is None

    digest = resolve_model(run.pipeline.model, registry=run.registry).digest
    manifests = run.runs.recent()
    steps, dated = run.pipeline.steps, date_settings(run, manifests)
    return freshness.up_to_date(run.pipeline, steps, manifests, digest, run.retag, is_latest, **dated) is not None
