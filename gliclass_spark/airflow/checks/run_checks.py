"""What Airflow's workers look at by themselves, without Spark: the source before a run, its manifest afterwards."""

from __future__ import annotations

import logging
from datetime import datetime

from airflow.sdk.exceptions import AirflowFailException

from gliclass_spark.airflow import run_pages
from gliclass_spark.airflow.alerts import tell
from gliclass_spark.airflow.storage import storage_options
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.errors import GliclassSparkError, ManifestError, TableError
from gliclass_spark.report.run import run_report
from gliclass_spark.runs import history
from gliclass_spark.runs.delta_reader import began, delta_table
from gliclass_spark.runs.manifest import Manifest, check_run

logger = logging.getLogger(__name__)


def plan(file: str, until: datetime) -> bool:
    """Log what the run would read of the source; gives whether it was there at all when the night was due.

    Fails the task if the source can't be read, or lacks a column.
    """
    try:
        pipeline = Pipeline.from_yaml(file)
        if pipeline.source.path is None or pipeline.source.format != "delta":
            logger.info("%s is looked at as a whole, by the tag job", pipeline.source.path or pipeline.source.table)
            return True
        return _plan(pipeline, until)
    except GliclassSparkError as error:
        raise AirflowFailException(str(error)) from None


def done(file: str, run_id: str, step: str) -> tuple[Pipeline, Manifest]:
    """The manifest of the run's step. Raises TableError or ManifestError unless it says that the step did its work."""
    pipeline = Pipeline.from_yaml(file)
    mine, _ = history.of_run(history.manifests(pipeline, storage_options(pipeline)), run_id)
    check_run(mine, run_id, [step])
    return pipeline, next(each for each in mine if each.job == step)


def verify(file: str, run_id: str) -> None:
    """Fail the task unless every step of the run succeeded, and every row that came in came out."""
    pipeline = Pipeline.from_yaml(file)
    try:
        mine, _ = history.of_run(history.manifests(pipeline, storage_options(pipeline)), run_id)
        check_run(mine, run_id, pipeline.steps)
    except (TableError, ManifestError) as error:
        raise AirflowFailException(str(error)) from None
    for each in mine:
        logger.info("%s: %s in, %s in its tables, %.0f s", each.job, each.rows_in, each.documents, each.seconds)


def report(file: str, run_id: str) -> None:
    """Write the run's page, and tell what it warns of. Fails the task, the page written, if the run is not whole."""
    pipeline = Pipeline.from_yaml(file)
    options = storage_options(pipeline)
    try:
        page = run_report.page(pipeline, run_id, options)
        logger.info("report: %s", run_pages.write(pipeline, run_id, page.html, options))
        if page.warnings and pipeline.airflow is not None:
            tell(pipeline.airflow.alerts, f"{pipeline.name}: run {run_id}", "\n".join(page.warnings))
        check_run(page.manifests, run_id, pipeline.steps)
    except (TableError, ManifestError) as error:
        raise AirflowFailException(str(error)) from None


def _plan(pipeline: Pipeline, until: datetime) -> bool:
    options = storage_options(pipeline)
    source = delta_table(str(pipeline.source.path), storage_options=options)
    columns = {field.name.lower(): field.name for field in source.schema().fields}
    for key in ("id", "text"):
        wanted = getattr(pipeline.source, key)
        if wanted.lower() not in columns:
            has = ", ".join(columns.values())
            raise TableError(f"{pipeline.source.path} has no column {wanted!r} (source.{key}); it has {has}")
    pipeline.rules.check(list(columns.values()), pipeline.label_set.names, f"pipeline {pipeline.name!r}")
    newest = source.version()
    source.load_as_version(until)
    # delta-rs gives the first version for every time before it, too.
    if source.version() == 0 and (first := began(str(pipeline.source.path), options)) > until:
        logger.info("%s begins at %s: at %s there was nothing to read yet", pipeline.source.path, first, until)
        return False
    logger.info(
        "%s as of %s: version %s of %s, %s rows",
        pipeline.source.path,
        until.isoformat(),
        source.version(),
        newest,
        source.count(),
    )
    return True
