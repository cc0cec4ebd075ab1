"""Small pipelines that have run once: tests copy them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from delta_pipeline import documents, pipeline_of, run_all, write
from feedback_signals import TEXTS
from pyspark.sql import SparkSession

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.spark.jobs import PipelineRun, tag_step


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


@pytest.fixture(scope="session")
def tagged_mail(spark: SparkSession, tiny_bi_encoder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A pipeline after a run with exploration. Tests copy it."""
    folder = tmp_path_factory.mktemp("tagged")
    frame = spark.createDataFrame(list(TEXTS.items()), "id string, body string").coalesce(1)
    frame.write.format("delta").option("delta.enableChangeDataFeed", "true").save(str(folder / "mail"))
    document = {
        "name": "mail",
        "source": {"path": "mail", "id": "id", "text": "body"},
        "label_set": ["spam", "lake"],
        "model": tiny_bi_encoder,
        "tables": "lake",
        "exploration": 0.5,
        "max_error_ratio": 0.5,
        "steps": ["tag"],
    }
    (folder / "mail.yaml").write_text(yaml.safe_dump(document))
    tag_step(PipelineRun(spark, Pipeline.from_yaml(folder / "mail.yaml"), "run-1", precision="float32"))
    return folder


@pytest.fixture
def mail_folder(tagged_mail: Path, tmp_path: Path) -> Path:
    """The folder of that pipeline, copied."""
    shutil.copytree(tagged_mail, tmp_path, dirs_exist_ok=True)
    return tmp_path


@pytest.fixture
def mail_pipeline(mail_folder: Path) -> Pipeline:
    return Pipeline.from_yaml(mail_folder / "mail.yaml")
