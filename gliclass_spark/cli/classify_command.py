"""The command that classifies a few texts without Spark."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from gliclass_spark.cli.console import console
from gliclass_spark.config.model_uri import MODEL_URI_FORMS

app = typer.Typer()


@app.command()
def classify(
    labels: Annotated[str, typer.Option(help="Label names, separated by commas, or a label set's YAML file.")],
    texts: Annotated[list[str] | None, typer.Argument(help="Texts. Default: the lines of standard input.")] = None,
    model: Annotated[str, typer.Option(help=f"{MODEL_URI_FORMS}.")] = "embedded",
) -> None:
    """Classify texts without Spark, to try labels and their wording.

    gliclass-spark classify --labels "spam,invoice,complaint" "Your parcel never arrived!"
    """
    from gliclass_spark.cli.output.model_output import show_classification
    from gliclass_spark.inference.engine import Engine
    from gliclass_spark.labels import LabelSet

    is_file = labels.endswith((".yaml", ".yml"))
    label_set = LabelSet.from_yaml(labels) if is_file else LabelSet.of(*labels.split(","))
    engine = Engine.from_pretrained(model)
    console.print(f"{engine}", style="dim", highlight=False, markup=False)
    lines = texts or [line.rstrip("\n") for line in sys.stdin]
    for text, classification in zip(lines, engine.classify(lines, label_set), strict=True):
        show_classification(console, text, classification, label_set)
