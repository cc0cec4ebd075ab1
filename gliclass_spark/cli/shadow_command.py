"""The command that tags a run's documents with another model, beside the pipeline."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from gliclass_spark.cli.console import console, step
from gliclass_spark.cli.model_commands import RegistryUri
from gliclass_spark.cli.options.run_session import open_run
from gliclass_spark.cli.options.spark_options import PipelineFile, SparkConf, Verbose
from gliclass_spark.cli.output.json_output import AsJson, print_json
from gliclass_spark.config.model_uri import CHALLENGER, MODEL_URI_FORMS, REGISTERED, registered_model
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.errors import ConfigError

app = typer.Typer()


@app.command()
def shadow(
    pipeline: PipelineFile,
    model: Annotated[
        str | None,
        typer.Option(help=f"{MODEL_URI_FORMS}. Default: the challenger of the pipeline's registered model."),
    ] = None,
    max_documents: Annotated[
        int, typer.Option(min=1, help="Most documents to score: those with the smallest hashes of their ids.")
    ] = 10_000,
    out: Annotated[
        Path | None, typer.Option(help="The page to write. Default: shadow-RUN.html in this folder; none with --json.")
    ] = None,
    registry: RegistryUri = None,
    conf: SparkConf = None,
    as_json: AsJson = False,
    verbose: Verbose = False,
) -> None:
    """Tag the latest run's documents with another model, and show where it differs, before it is promoted.

    Its tags go to the table `shadow_tags`, which no job reads: labels, decisions and routes of the pipeline stay. The
    page has the labels that one model gives and the other does not, the differences of the scores, the decisions that
    would change, and some documents.

    gliclass-spark shadow mail.yaml --model models:/mail/3
    """
    from dataclasses import replace

    from gliclass_spark.cli.output.shadow_output import show_shadow
    from gliclass_spark.report.shadow_page import shadow_page
    from gliclass_spark.runs.file_names import file_name
    from gliclass_spark.spark.jobs.shadow import shadow as run_shadow

    settings = Pipeline.from_yaml(pipeline)
    uri = model or _challenger(settings)
    with open_run(pipeline, None, conf, verbose=verbose) as run, step(f"tagging with {uri}"):
        comparison = run_shadow(replace(run, registry=registry), uri, max_documents)
    if as_json:
        print_json(asdict(comparison))
    else:
        show_shadow(console, comparison)
    if out is not None or not as_json:
        target = out or Path(f"shadow-{file_name(comparison.run_id)}.html")
        target.write_text(shadow_page(settings.name, comparison), encoding="utf-8")
        if not as_json:
            console.print(f"The page of the shadow run: {target}", soft_wrap=True, highlight=False)


def _challenger(pipeline: Pipeline) -> str:
    if not pipeline.model.startswith(REGISTERED):
        raise ConfigError(
            f"the pipeline's model is {pipeline.model!r}, which has no challenger; give the other model with --model"
        )
    return f"{REGISTERED}{registered_model(pipeline.model)[0]}@{CHALLENGER}"
