"""The command that demonstrates retraining: decisions, reviews, a retraining, a promotion and its rollback."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gliclass_spark.cli.console import console
from gliclass_spark.cli.model_commands import register
from gliclass_spark.cli.options.spark_options import SparkConf, Verbose, open_spark
from gliclass_spark.cli.retrain_commands import STEPS_AFTER_SNAPSHOT, run_steps, take_snapshot

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from gliclass_spark.config.pipeline import Pipeline
    from gliclass_spark.config.retraining import RetrainConfig
    from gliclass_spark.demo.package_documents import PackageDocument

app = typer.Typer()


@app.command()
def retrain_demo(
    config: Path = Path("conf/retrain/reviewed.yaml"), conf: SparkConf = None, verbose: Verbose = False
) -> None:
    """Tag, ingest reviews, retrain, promote, tag with the new champion, roll back.

    The documents are the descriptions of the Python packages installed here; the reviews follow the trove classifiers
    of their authors.
    """
    from uuid import uuid4

    from gliclass_spark.checkpoints.registry import Registry
    from gliclass_spark.cli.output.model_output import show_versions
    from gliclass_spark.config.model_uri import CHAMPION
    from gliclass_spark.config.retraining import RetrainConfig
    from gliclass_spark.demo.package_documents import installed_packages, write_documents
    from gliclass_spark.demo.package_reviews import write_golden
    from gliclass_spark.errors import ModelNotFoundError, RegistryUnreachableError

    settings, run_id = RetrainConfig.from_yaml(config), f"retrain-{uuid4().hex[:8]}"
    registry, name = Registry(settings.registry), settings.model_name
    console.rule("1. The champion", align="left")
    try:
        registry.version(name, CHAMPION)
    except (ModelNotFoundError, RegistryUnreachableError):  # the database does not exist yet
        register(name, "embedded", settings.registry)
    show_versions(console, name, registry.versions(name))
    with open_spark(conf, verbose) as spark:
        documents = installed_packages()
        write_documents(str(settings.pipeline.source.path))
        console.rule("2. A run: tag, filter, route", align="left")
        _run_pipeline(spark, settings.pipeline, settings.registry)
        console.rule("3. Reviews are ingested", align="left")
        golden = write_golden(documents, Path(settings.golden))
        console.print(f"{golden} packages are the golden set, which is never trained on", highlight=False)
        _ingest_reviews(spark, settings, documents)
        console.rule("4. Retraining", align="left")
        take_snapshot(settings, run_id, conf)
        run_steps(settings, run_id, STEPS_AFTER_SNAPSHOT)
        console.rule("5. The next run tags with the new champion", align="left")
        _run_pipeline(spark, settings.pipeline, settings.registry)
        if registry.version(name, CHAMPION).tags.get("retraining") == run_id:
            console.rule("6. Rollback", align="left")
            champion = registry.rollback(name)
            console.print(f"gliclass-spark rollback {name}: {champion.uri} is the champion again", highlight=False)
            _run_pipeline(spark, settings.pipeline, settings.registry)
    show_versions(console, name, registry.versions(name))


def _run_pipeline(spark: SparkSession, pipeline: Pipeline, registry: str | None) -> None:
    from uuid import uuid4

    from gliclass_spark.cli.output.run_output import show_line
    from gliclass_spark.spark.jobs import STEPS as JOBS
    from gliclass_spark.spark.jobs import PipelineRun

    run = PipelineRun(spark, pipeline, f"run-{uuid4().hex[:8]}", registry=registry)
    manifests = [JOBS[step](run) for step in pipeline.steps]
    show_line(console, manifests)
    digest = manifests[0].model_digest or ""
    console.print(f"tagged by {pipeline.model}, digest {digest[:12]}", highlight=False)


def _ingest_reviews(spark: SparkSession, config: RetrainConfig, documents: list[PackageDocument]) -> None:
    from gliclass_spark.cli.output.feedback_output import show_feedback
    from gliclass_spark.config.catalog import table_path
    from gliclass_spark.demo.package_reviews import write_reviews
    from gliclass_spark.runs.delta_reader import delta_table, query
    from gliclass_spark.spark.jobs.feedback.ingestion import ingest

    tags = delta_table(table_path(config.pipeline.tables, "tags"))
    decisions = query(tags, "select doc_id, labels from t where deleted_at is null")
    file = Path(config.work) / "reviews.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_reviews(documents, decisions, config.pipeline.label_set.names, file)
    show_feedback(console, config.pipeline.name, ingest(spark, config.pipeline, str(file)))
