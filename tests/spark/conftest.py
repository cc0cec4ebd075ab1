"""A small pipeline that has run once: tests copy it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from delta_pipeline import documents, pipeline_of, run_all, write
from pyspark.sql import SparkSession

from gliclass_spark.spark.jobs import PipelineRun


@pytest.fixture(scope="session")
def first_lake(spark: SparkSession, tiny_bi_encoder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with four documents and the tables of the pipeline's first run."""
    folder = tmp_path_factory.mktemp("first_lake")
    write(documents(spark, range(4)), folder)
    run_all(PipelineRun(spark, pipeline_of(folder, tiny_bi_encoder), "run-1", precision="float32"), "run-1")
    return folder


@pytest.fixture
def delta_run(spark: SparkSession, tiny_bi_encoder: str, tmp_path: Path, first_lake: Path) -> PipelineRun:
    """The pipeline after its first run, in a folder of its own."""
    for name in ("documents", "lake"):
        shutil.copytree(first_lake / name, tmp_path / name)
    return PipelineRun(spark, pipeline_of(tmp_path, tiny_bi_encoder), "run-1", precision="float32")


@pytest.fixture
def unrouted_run(delta_run: PipelineRun, tmp_path: Path, tiny_bi_encoder: str) -> PipelineRun:
    """The same without routes."""
    pipeline = pipeline_of(tmp_path, tiny_bi_encoder, steps=["tag", "filter"], routes=[])
    return PipelineRun(delta_run.spark, pipeline, "run-1", precision="float32")
