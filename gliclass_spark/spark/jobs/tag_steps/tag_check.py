"""Checks of a tag job before any work, and the model that it uses."""

from __future__ import annotations

import logging

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.config.catalog import CatalogSchema
from gliclass_spark.errors import CheckpointError, ModelNotFoundError, TableError
from gliclass_spark.runs.manifest import Manifest
from gliclass_spark.spark.delta.local_rows import local_rows
from gliclass_spark.spark.delta.schema import EXPLORATION_FIELDS, FILTERED, TAGS
from gliclass_spark.spark.delta.table_creation import check_storable, missing_columns
from gliclass_spark.spark.delta.table_layout import check_columns, check_partitions
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun
from gliclass_spark.spark.jobs.run_date import date_settings
from gliclass_spark.spark.source import with_content
from gliclass_spark.spark.transforms import filtering
from gliclass_spark.spark.transforms.rule_expressions import check_analysis, lenient_sql

logger = logging.getLogger(__name__)


def check(run: PipelineRun, recent: list[Manifest]) -> ModelRef:
    """Check source, columns, rules and the table `tags`, and return the resolved model. Writes nothing.

    `recent` is the result of `Runs.recent`. Raises TableError, RulesError or an error about the model.
    """
    documents, pipeline = run.documents.read(), run.pipeline
    if pipeline.source.table is not None or isinstance(pipeline.tables, CatalogSchema):
        run.documents.check_apart_from(map(run.lake.table, pipeline.written_tables))
    pipeline.rules.check(documents.columns, pipeline.label_set.names, run.title)
    with lenient_sql(run.spark):
        tags = filtering.tags_of_label_set(local_rows(run.spark, [], TAGS), pipeline.label_set)
        tagged = filtering.with_tags(documents, with_content(documents, pipeline.source.text), tags)
        check_analysis(tagged, pipeline.rules, run.title, **date_settings(run, recent))
    if "filter" in pipeline.steps:
        check_storable(tagged.schema, run.documents.name)
        check_columns(tagged.schema, pipeline.output, run.documents.name)
        check_partitions(run.spark, map(run.lake.table, (*FILTERED, *pipeline.rules.destinations)), pipeline.output)
    missing = missing_columns(run.spark, run.lake.table("tags"), TAGS)
    required = [name for name in missing if name not in EXPLORATION_FIELDS.names]
    if required:
        raise TableError(
            f"{run.lake.table('tags').name}: expected a column {required[0]!r}, found none; someone altered the table: "
            "bring back an earlier version (RESTORE TABLE ... TO VERSION AS OF ...), or move it away to tag everything "
            "again"
        )
    return _resolve_model(run, recent)


def _resolve_model(run: PipelineRun, recent: list[Manifest]) -> ModelRef:
    """Return the pipeline's model; for another attempt of a run, the model of its first attempt if it can be loaded.

    The URI of an alias, a branch or a folder may resolve to another model between two attempts of a run.
    """
    uri = run.pipeline.model
    attempts = [row for row in recent if (row.job, row.run_id, row.model) == ("tag", run.run_id, uri)]
    digest = attempts[-1].model_digest if attempts else None  # latest first
    try:
        return resolve_model(uri, digest, run.registry)
    except (ModelNotFoundError, CheckpointError) as error:
        if digest is None:
            raise
        model = resolve_model(uri, registry=run.registry)
        logger.warning("run %r continues with another model than it began with: %s", run.run_id, error)
        return model
