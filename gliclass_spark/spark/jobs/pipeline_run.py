"""A run of a pipeline: what its jobs share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import TYPE_CHECKING

from pyspark.sql import SparkSession

from gliclass_spark.config.pipeline import Pipeline, Retag
from gliclass_spark.spark.delta.lake import Lake
from gliclass_spark.spark.delta.runs_table import Runs
from gliclass_spark.spark.delta.schema import TableSpec
from gliclass_spark.spark.source import Documents

if TYPE_CHECKING:
    from gliclass_spark.inference.device import Precision

# Called with the number of texts that are scored, and of those to score.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class PipelineRun:
    """One run of a pipeline. Its jobs share the id, and can be run again under it.

    retag: which documents `tag` scores again: those with a "changed" text, label set or model; "all"; or
    "none", which keeps the tags of an earlier model. full: read every document instead of those that
    changed since the last run. until: read the source as of this time, or as of an earlier run's version
    if that is later; None: the latest version. run_date: the date for rules that use it; None: that of
    `until`, else the day of the run's first claim. registry: MLflow tracking URI of a models:/ model; None:
    the environment's.
    """

    spark: SparkSession
    pipeline: Pipeline
    run_id: str
    device: str | None = None
    precision: Precision = "auto"
    retag: Retag = "changed"
    full: bool = False
    until: datetime | None = None
    run_date: date | None = None
    registry: str | None = None
    on_progress: Progress = lambda scored, total: None

    def in_own_session(self) -> PipelineRun:
        """Return the run in a copy of its Spark session, with all of its settings and views.

        A job sets ANSI mode and Delta's transaction ids: in the caller's session, these would reach the queries and
        writes of other threads.
        """
        session = SparkSession(self.spark.sparkContext, self.spark._jsparkSession.cloneSession())
        return replace(self, spark=session)

    @property
    def lake(self) -> Lake:
        """The folder of the pipeline's tables."""
        return Lake(self.pipeline.tables)

    @property
    def documents(self) -> Documents:
        """The pipeline's source."""
        return Documents(self.spark, self.pipeline.source)

    @property
    def runs(self) -> Runs:
        """The pipeline's rows of the `runs` table."""
        return Runs(self.spark, self.lake.table("runs"), self.pipeline.name, self.pipeline.output)

    def spec(self, spec: TableSpec) -> TableSpec:
        """Return a table's spec with what the pipeline's file sets."""
        return spec.of_pipeline(self.pipeline.name, self.pipeline.output)

    @property
    def title(self) -> str:
        """The pipeline's name in messages."""
        return f"pipeline {self.pipeline.name!r}"
