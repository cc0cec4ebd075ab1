"""The jobs of a run: each reads, transforms, writes, verifies and records."""

from __future__ import annotations

from collections.abc import Callable

from gliclass_spark.runs.manifest import Manifest
from gliclass_spark.spark.jobs.filter import filter_step
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun
from gliclass_spark.spark.jobs.route import route_step
from gliclass_spark.spark.jobs.tag import tag_step
from gliclass_spark.spark.jobs.up_to_date import is_up_to_date

STEPS: dict[str, Callable[[PipelineRun], Manifest]] = {"tag": tag_step, "filter": filter_step, "route": route_step}

__all__ = ["STEPS", "PipelineRun", "filter_step", "is_up_to_date", "route_step", "tag_step"]
