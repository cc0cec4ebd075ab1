"""A pipeline's run from Python, in a notebook's Spark session or in a new one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from gliclass_spark.config.catalog import folder_of
from gliclass_spark.config.pipeline import Pipeline, Retag
from gliclass_spark.errors import ConfigError
from gliclass_spark.interactive.run_record import RunRecord
from gliclass_spark.runs.manifest import new_run_id

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from gliclass_spark.inference.device import Precision
    from gliclass_spark.spark.jobs import PipelineRun


def run(
    pipeline: Pipeline | str | Path,
    *,
    spark: SparkSession | None = None,
    run_id: str | None = None,
    retag: Retag = "changed",
    full: bool = False,
    device: str | None = None,
    precision: Precision = "auto",
    registry: str | None = None,
    report: str | Path | None = None,
) -> RunRecord:
    """Run all steps of a pipeline, and return the run's record, which a notebook shows as a table and a chart.

    pipeline: a Pipeline, or the path of its file. spark: a session with Delta, see `spark_session`; None: the active
    one, or a new one for this machine. It stays open. run_id: give an earlier id to finish that run; None: a new one.
    retag: which documents are scored again: those with a "changed" text, label set or model, "all", or "none" that have
    scores. full: read every document, not only the changed ones. device, precision, registry: as in `gliclass_udf`.
    report: write the HTML report of the run to this file.

    It does what the command `run` does: incremental, idempotent, with verified counts. Raises ConfigError before Spark
    runs anything, and the errors of the jobs: TableError, ErrorShareError, ManifestError, JobError.
    """
    settings = _checked(pipeline, retag, report)

    # Imported here: checking the arguments takes no Spark.
    from gliclass_spark.spark.jobs import STEPS, PipelineRun
    from gliclass_spark.spark.launch import check_paths
    from gliclass_spark.spark.session import java_encoding, spark_session
    from gliclass_spark.spark.spark_errors import reporting_spark_errors
    from gliclass_spark.spark.udf_arguments import check_device, check_precision

    check_precision(precision)
    if device is not None:
        check_device(device)
    session = spark_session() if spark is None else spark
    if getattr(session, "_sc", None) is None:
        raise ConfigError(
            "run takes a classic Spark session, found one of Spark Connect, which can't commit several tables as one "
            "run; run the pipeline on the cluster, by `gliclass-spark run` or spark-submit"
        )
    paths = {"source.path": settings.source.path, "tables": folder_of(settings.tables)}
    check_paths(java_encoding(session), paths)
    identity = run_id or new_run_id()
    pipeline_run = PipelineRun(
        session, settings, identity, device=device, precision=precision, retag=retag, full=full, registry=registry
    )
    with reporting_spark_errors(f"pipeline {settings.name!r}"):
        manifests = tuple(STEPS[step](pipeline_run) for step in settings.steps)
    written = _write_report(settings, identity, Path(report)) if report is not None else None
    return RunRecord(identity, settings.name, manifests, _places(pipeline_run), written)


def _checked(pipeline: Any, retag: Any, report: Any) -> Pipeline:
    """Return the pipeline, read from its file if it is a path. Raises ConfigError for a wrong argument."""
    if not isinstance(pipeline, (Pipeline, str, Path)):
        raise ConfigError(
            f"pipeline must be a Pipeline or the path of its file, found {pipeline!r}; write Pipeline(name=...)"
        )
    if retag not in get_args(Retag):
        raise ConfigError(f"retag {retag!r} is unknown; use one of {', '.join(get_args(Retag))}")
    if report is not None and not Path(report).absolute().parent.is_dir():
        raise ConfigError(f"report {str(report)!r} can't be written: its folder does not exist; create it")
    settings = pipeline if isinstance(pipeline, Pipeline) else Pipeline.from_yaml(pipeline)
    if report is not None and folder_of(settings.tables) is None:
        raise ConfigError(
            "report needs a 'location' beside the schema in 'tables': it reads the tables without Spark, which alone "
            "knows where the catalog has put them; add it, or leave report out"
        )
    return settings


def _write_report(pipeline: Pipeline, run_id: str, path: Path) -> Path:
    from gliclass_spark.report.run.run_report import run_report

    path.write_text(run_report(pipeline, run_id).html, encoding="utf-8")
    return path


def _places(run: PipelineRun) -> dict[str, str]:
    """Return the path, or the name in the catalog, of each table that the pipeline's steps write."""
    names = ["tags"]
    if "filter" in run.pipeline.steps:
        names += ["kept", "rejected", "quarantined"]
    if "route" in run.pipeline.steps:
        names += run.pipeline.rules.destinations
    references = {name: run.lake.table(name) for name in [*names, "runs"]}
    return {name: str(reference.table or reference.path) for name, reference in references.items()}
