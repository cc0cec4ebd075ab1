"""Checks of a pipeline run on an Airflow worker, without Spark: its source before, its manifests after."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import get_args

from airflow.sdk.exceptions import AirflowFailException

from gliclass_spark.airflow.storage import storage_options
from gliclass_spark.config.pipeline import Pipeline, Retag
from gliclass_spark.errors import GliclassSparkError, ManifestError, TableError
from gliclass_spark.runs import history
from gliclass_spark.runs.delta_reader import creation_time, delta_table
from gliclass_spark.runs.freshness import last_success
from gliclass_spark.runs.manifest import Manifest, check_run
from gliclass_spark.runs.settings import filter_settings, route_settings, tag_settings

logger = logging.getLogger(__name__)


def plan(file: str, until: datetime) -> bool:
    """Log what the run will read, and return whether the source existed at `until`.

    Fails the task if the source can't be read or lacks a column.
    """
    try:
        pipeline = Pipeline.from_yaml(file)
        if pipeline.source.path is None or pipeline.source.format != "delta":
            source = pipeline.source.path or pipeline.source.table
            logger.info("%s is not checked here: the tag job reads it", source)
            return True
        return _plan(pipeline, until)
    except GliclassSparkError as error:
        raise AirflowFailException(str(error)) from None


def has_new_documents(file: str) -> bool:
    """Return whether the pipeline's source has a version that no successful tag job has read.

    Fails the task if the source can't be read, or keeps no versions.
    """
    try:
        pipeline = Pipeline.from_yaml(file)
        if pipeline.source.path is None or pipeline.source.format != "delta":
            source = pipeline.source.path or pipeline.source.table
            raise TableError(f"{source} keeps no versions that can be read here; schedule the run by time instead")
        options = storage_options(pipeline)
        table = delta_table(pipeline.source.path, storage_options=options)
        last = last_success(history.recent_manifests(pipeline, options), "tag")
    except GliclassSparkError as error:
        raise AirflowFailException(str(error)) from None
    if last is None:
        return True
    read = last.inputs["source"]
    return (str(table.metadata().id), table.version()) != (read.table_id, read.until)


def last_sequence(file: str, run_id: str, step: str) -> int:
    """Return the sequence number of the run's last attempt at the step, 0 if there was none.

    Raises TableError if `runs` can't be read.
    """
    pipeline = Pipeline.from_yaml(file)
    manifests = history.recent_manifests(pipeline, storage_options(pipeline))
    return max((row.sequence for row in manifests if (row.run_id, row.job) == (run_id, step)), default=0)


def verified_manifest(file: str, run_id: str, step: str) -> tuple[Pipeline, Manifest]:
    """Return the pipeline and the manifest of the run's step.

    Raises TableError or ManifestError unless the step succeeded, with the settings that the pipeline's file has now,
    and its counts add up.
    """
    pipeline = Pipeline.from_yaml(file)
    manifests = _manifests(pipeline, run_id)
    check_run(manifests, run_id, [step])
    manifest = next(manifest for manifest in manifests if manifest.job == step)
    _check_settings(pipeline, manifest)
    return pipeline, manifest


def verify(file: str, run_id: str) -> None:
    """Fail the task unless every step of the run succeeded, with the file's settings, and its counts add up."""
    pipeline = Pipeline.from_yaml(file)
    try:
        manifests = _manifests(pipeline, run_id)
        check_run(manifests, run_id, pipeline.steps)
        for manifest in manifests:
            _check_settings(pipeline, manifest)
    except (TableError, ManifestError) as error:
        raise AirflowFailException(str(error)) from None
    for manifest in manifests:
        logger.info(
            "%s: %s rows in, %s rows in its tables, %.0f s",
            manifest.job,
            manifest.rows_in,
            manifest.documents,
            manifest.seconds,
        )


def report(file: str, run_id: str) -> None:
    """Write the run's page and send its warnings. Fails the task, after writing the page, if the run failed."""
    # Only this task renders: the other checks load neither matplotlib nor jinja2.
    from gliclass_spark.airflow import run_pages
    from gliclass_spark.airflow.alerts import send_alert
    from gliclass_spark.report.run.run_report import run_report

    pipeline = Pipeline.from_yaml(file)
    options = storage_options(pipeline)
    try:
        page = run_report(pipeline, run_id, options)
        logger.info("report: %s", run_pages.write(pipeline, run_id, page.html, options))
        if page.warnings and pipeline.airflow is not None:
            send_alert(pipeline.airflow.alerts, f"{pipeline.name}: run {run_id}", "\n".join(page.warnings))
        check_run(page.manifests, run_id, pipeline.steps)
    except (TableError, ManifestError) as error:
        raise AirflowFailException(str(error)) from None


def _manifests(pipeline: Pipeline, run_id: str) -> list[Manifest]:
    manifests, _ = history.select_run(history.read_manifests(pipeline, storage_options(pipeline)), run_id)
    return manifests


def _check_settings(pipeline: Pipeline, manifest: Manifest) -> None:
    """Raise ManifestError, with both sides, unless the manifest's settings are those of the pipeline's file."""
    settings = {"label_set_hash": {pipeline.label_set.hash}, "model": {pipeline.model}}
    if manifest.job != "tag":  # tags do not depend on the rules
        settings["rules_hash"] = {pipeline.rules.hash}
    settings["settings_hash"] = _settings_hashes(pipeline, manifest)
    for name, expected in settings.items():
        recorded = getattr(manifest, name)
        if recorded not in expected:
            raise ManifestError(
                f"run {manifest.run_id!r}, {manifest.job}: its success had another {name.replace('_', ' ')}: expected "
                f"{' or '.join(sorted(expected))}, found {recorded}; run {manifest.job} again with the pipeline as it "
                "is now"
            )


def _settings_hashes(pipeline: Pipeline, manifest: Manifest) -> set[str]:
    """Return the settings hashes that the job may have with this pipeline, and the manifest's model."""
    if manifest.job == "tag":
        return {tag_settings(pipeline, manifest.model_digest, retag) for retag in get_args(Retag)}
    if pipeline.rules.uses_run_date:  # the job's own date is part of it
        return {manifest.settings_hash}
    return {filter_settings(pipeline) if manifest.job == "filter" else route_settings(pipeline)}


def _plan(pipeline: Pipeline, until: datetime) -> bool:
    options = storage_options(pipeline)
    source = delta_table(str(pipeline.source.path), storage_options=options)
    columns = {field.name.lower(): field.name for field in source.schema().fields}
    for key in ("id", "text"):
        column = getattr(pipeline.source, key)
        if column.lower() not in columns:
            names = ", ".join(columns.values())
            raise TableError(f"{pipeline.source.path} has no column {column!r} (source.{key}); it has {names}")
    pipeline.rules.check(list(columns.values()), pipeline.label_set.names, f"pipeline {pipeline.name!r}")
    latest = source.version()
    source.load_as_version(until)
    # For every time before the first version, delta-rs also loads the first version.
    if source.version() == 0 and (created := creation_time(str(pipeline.source.path), options)) > until:
        path = pipeline.source.path
        logger.info("%s was created at %s, after %s: there is nothing to read yet", path, created, until)
        return False
    logger.info(
        "%s as of %s: version %s of %s, %s rows",
        pipeline.source.path,
        until.isoformat(),
        source.version(),
        latest,
        source.count(),
    )
    return True
