"""Model URIs whose files may change: a query and a run use one digest from start to end."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest
import yaml
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from gliclass_spark import gliclass_udf
from gliclass_spark.checkpoints.cache import Cache
from gliclass_spark.checkpoints.registry import Registry
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.errors import ErrorShareError
from gliclass_spark.spark.jobs import PipelineRun, is_up_to_date, tag_step

pytestmark = pytest.mark.long

MODEL_URI = "models:/mail@champion"
TEXTS = [("a", "a lake of data"), ("b", "buy this boat"), ("c", " ")]


@pytest.fixture
def registry(
    tmp_path: Path,
    registry_database: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_bi_encoder: str,
    other_tiny_model: str,
) -> Registry:
    """Version 1 is the champion; version 2 has other weights."""
    shutil.copy(registry_database, tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    registry = Registry()
    with registry.run("retraining", "run", {}) as tracked:
        for folder in (tiny_bi_encoder, other_tiny_model):
            registry.register("mail", Path(folder), tracked.run_id)
    registry.promote("mail", "1")
    return registry


def test_a_query_and_a_run_keep_the_version_that_they_started_with(
    spark: SparkSession, registry: Registry, tmp_path: Path
) -> None:
    first, second = (version.digest for version in registry.versions("mail"))
    documents = spark.createDataFrame(TEXTS, "id string, body string").coalesce(1)
    documents.write.format("delta").save(str(tmp_path / "mail"))
    tagged = documents.select(gliclass_udf(["spam", "lake"], model=MODEL_URI, output="full")("body").alias("result"))
    with pytest.raises(ErrorShareError, match="1 of 3 texts could not be scored"):
        tag_step(run_of(spark, tmp_path, "run-1", max_error_ratio=0.0))

    registry.promote("mail", "2")
    models = tagged.select("result.model", "result.model_digest").distinct().collect()
    assert [tuple(row) for row in models] == [(MODEL_URI, first)]

    retried = tag_step(run_of(spark, tmp_path, "run-1", max_error_ratio=0.5))
    assert (retried.model, retried.model_digest, retried.tagged) == (MODEL_URI, first, 3)
    assert tags(spark, tmp_path) == {(MODEL_URI, first)}

    # Only the alias has changed.
    assert not is_up_to_date(run_of(spark, tmp_path, "run-2", max_error_ratio=0.5))
    following = tag_step(run_of(spark, tmp_path, "run-2", max_error_ratio=0.5))
    assert (following.model_digest, following.retagged) == (second, 3)
    assert tags(spark, tmp_path) == {(MODEL_URI, second)}
    assert is_up_to_date(run_of(spark, tmp_path, "run-3", max_error_ratio=0.5))


def test_a_run_without_its_registry_uses_the_last_known_champion(
    spark: SparkSession, registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = registry.version("mail", "1").digest
    documents = spark.createDataFrame(TEXTS[:2], "id string, body string")
    documents.write.format("delta").save(str(tmp_path / "mail"))
    tag_step(run_of(spark, tmp_path, "run-1", max_error_ratio=0.5))
    Path(registry.uri.removeprefix("sqlite:///")).unlink()
    late = spark.createDataFrame([("d", "a boat on a lake")], documents.schema)
    late.write.format("delta").mode("append").save(str(tmp_path / "mail"))
    with caplog.at_level(logging.WARNING):
        following = tag_step(run_of(spark, tmp_path, "run-2", max_error_ratio=0.5))
    assert (following.status, following.model_digest, following.tagged) == ("succeeded", first, 1)
    assert tags(spark, tmp_path) == {(MODEL_URI, first)}
    assert f"using the files that {MODEL_URI} resolved to" in caplog.text


def test_a_query_uses_the_files_of_its_start_or_fails_with_both_digests(
    spark: SparkSession, tmp_path: Path, tiny_bi_encoder: str, other_tiny_model: str
) -> None:
    first, second = (resolve_model(folder).digest for folder in (tiny_bi_encoder, other_tiny_model))
    uri = (tmp_path / "store").as_uri()
    shutil.copytree(tiny_bi_encoder, tmp_path / "store")

    def query() -> DataFrame:
        function = gliclass_udf(["spam", "lake"], model=uri, output="full")
        frame = spark.createDataFrame(TEXTS, "id string, body string").coalesce(1)
        return frame.select(function("body").alias("result")).select("result.model", "result.model_digest").distinct()

    before = query()
    shutil.copytree(other_tiny_model, tmp_path / "store", dirs_exist_ok=True)
    assert [tuple(row) for row in before.collect()] == [(uri, first)]
    after = query()
    shutil.rmtree(Cache.default().root / second)
    shutil.copytree(tiny_bi_encoder, tmp_path / "store", dirs_exist_ok=True)
    with pytest.raises(PySparkException, match=f"gave files with the digest {first[:12]}, expected {second[:12]}"):
        after.collect()


def test_documents_tagged_with_a_folder_are_not_tagged_again_once_it_is_registered(
    spark: SparkSession, registry: Registry, tmp_path: Path, tiny_bi_encoder: str
) -> None:
    documents = spark.createDataFrame(TEXTS[:2], "id string, body string")
    documents.write.format("delta").save(str(tmp_path / "mail"))
    assert tag_step(run_of(spark, tmp_path, "run-1", max_error_ratio=0.5, model=tiny_bi_encoder)).tagged == 2
    assert tag_step(run_of(spark, tmp_path, "run-2", max_error_ratio=0.5)).tagged == 0


def run_of(
    spark: SparkSession, folder: Path, run_id: str, max_error_ratio: float, model: str = MODEL_URI
) -> PipelineRun:
    document = {
        "name": "mail",
        "source": {"path": "mail", "id": "id", "text": "body"},
        "label_set": ["spam", "lake"],
        "model": model,
        "tables": "lake",
        "steps": ["tag"],
        "max_error_ratio": max_error_ratio,
    }
    (folder / "pipeline.yaml").write_text(yaml.safe_dump(document))
    return PipelineRun(spark, Pipeline.from_yaml(folder / "pipeline.yaml"), run_id, precision="float32")


def tags(spark: SparkSession, folder: Path) -> set[tuple[str, str]]:
    rows = spark.read.format("delta").load(str(folder / "lake" / "tags"))
    return {tuple(row) for row in rows.select("model", "model_digest").distinct().collect()}
