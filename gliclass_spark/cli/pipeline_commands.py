"""The commands around a pipeline's runs: plan, report, maintain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gliclass_spark.cli.console import console, messages, step
from gliclass_spark.cli.options.run_session import Full, RetagChoice, open_run
from gliclass_spark.cli.options.spark_options import PipelineFile, SparkConf, Verbose
from gliclass_spark.cli.output.json_output import AsJson, print_json
from gliclass_spark.cli.output.run_metrics import MetricsFile, write_metrics
from gliclass_spark.config.pipeline import Pipeline

app = typer.Typer()


@app.command()
def plan(
    pipeline: PipelineFile,
    conf: SparkConf = None,
    retag: RetagChoice = "changed",
    full: Full = False,
    sample: Annotated[int, typer.Option(min=1, help="Number of texts to score for the estimates.")] = 200,
    cluster: Annotated[bool, typer.Option("--cluster", help="Also size a cluster: executors, hours, cost.")] = False,
    documents: Annotated[
        int | None, typer.Option(help="With --cluster: number of documents. Default: those to tag.")
    ] = None,
    hours: Annotated[float, typer.Option(help="With --cluster: the time limit of the run.")] = 8.0,
    texts_per_s: Annotated[
        float | None,
        typer.Option(help="With --cluster: texts/s of one task slot. Default: this machine's, from the sample."),
    ] = None,
    slots: Annotated[int, typer.Option(help="With --cluster: task slots (GPUs) of an executor.")] = 1,
    price: Annotated[float, typer.Option(help="With --cluster: price of an executor per hour.")] = 0.0,
    spark_share: Annotated[
        float, typer.Option(help="With --cluster: share of the engine's speed that a job on Spark reaches.")
    ] = 0.8,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Show what a run would tag, keep, reject and route, from a sample. Writes nothing.

    Before the whole source is read, it prints a first estimate, from the first few documents.

    With --cluster it also sizes a cluster:

    gliclass-spark plan corpus.yaml --cluster --documents 1000000000 --texts-per-s 2000 --slots 4 --price 12
    """
    from gliclass_spark.cli.cluster_size import Executor, Workload
    from gliclass_spark.cli.output.plan_output import plan_document, show_first_estimate, show_plan, show_sizing
    from gliclass_spark.spark.jobs.plan import plan as plan_run

    executor = Executor(slots, price)
    scoring = step("loading the model and scoring a sample")
    with open_run(pipeline, None, conf, retag, full, verbose=verbose) as run, scoring:
        result = plan_run(run, sample, lambda first: show_first_estimate(messages, first))
    workload = None
    if cluster:
        workload = Workload(documents or result.to_tag, texts_per_s or result.texts_per_s or 0.0, hours, spark_share)
    if as_json:
        print_json(plan_document(run.pipeline.name, result, workload, executor))
        return
    show_plan(console, run.pipeline.name, result)
    if workload is not None:
        show_sizing(console, workload, executor)


@app.command()
def report(
    pipeline: PipelineFile,
    run_id: Annotated[str | None, typer.Argument(metavar="[RUN]", help="The run's id. Default: the latest.")] = None,
    out: Annotated[Path | None, typer.Option(help="The file to write. Default: RUN.html in this folder.")] = None,
    metrics: MetricsFile = None,
) -> None:
    """Write a run's report as one HTML page: counts, score histograms, drift, throughput, samples."""
    from gliclass_spark.cli.output.run_output import show_unlabelled
    from gliclass_spark.report.run.run_report import run_report
    from gliclass_spark.runs.file_names import file_name

    html_report = run_report(Pipeline.from_yaml(pipeline), run_id)
    reported_id = html_report.manifests[0].run_id
    target = out or Path(f"{file_name(reported_id)}.html")
    target.write_text(html_report.html, encoding="utf-8")
    console.print(f"Report of run {reported_id}: {target}", soft_wrap=True, highlight=False)
    show_unlabelled(console, html_report.manifests)
    if metrics is not None:
        write_metrics(metrics, html_report.manifests)


@app.command()
def maintain(pipeline: PipelineFile, conf: SparkConf = None, verbose: Verbose = False) -> None:
    """Compact the pipeline's tables (OPTIMIZE) and remove files past their retention (VACUUM).

    The retention is the table property delta.deletedFileRetentionDuration: 7 days by default.
    """
    from gliclass_spark.cli.output.maintenance_output import show_maintenance
    from gliclass_spark.spark.jobs.maintain import maintain as maintain_tables

    with open_run(pipeline, None, conf, verbose=verbose) as run:
        with step("compacting and vacuuming"):
            tables = list(maintain_tables(run.spark, run.pipeline))
        show_maintenance(console, tables)
