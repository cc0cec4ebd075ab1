"""The command that classifies texts without Spark: arguments for people, standard input for pipes."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from gliclass_spark.cli.console import console, messages, progress
from gliclass_spark.cli.output.json_output import print_json
from gliclass_spark.config.model_uri import MODEL_URI_FORMS

if TYPE_CHECKING:
    from gliclass_spark.inference.engine import Engine
    from gliclass_spark.labels import LabelSet

app = typer.Typer()


@app.command()
def classify(
    labels: Annotated[str, typer.Option(help="Label names, separated by commas, or a label set's YAML file.")],
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts. Default, and with -: the lines of standard input, as JSON lines.")
    ] = None,
    model: Annotated[str, typer.Option(help=f"{MODEL_URI_FORMS}.")] = "embedded",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object for each text. Always so for standard input.")
    ] = False,
) -> None:
    """Classify texts without Spark, to try labels and their wording, or in a shell's pipe.

    gliclass-spark classify --labels "spam,invoice,complaint" "Your parcel never arrived!"

    Without texts, each line of standard input is a text, and each line of the output its JSON, in the same order:

    gliclass-spark classify --labels "spam,invoice" < mails.txt | jq -r "select(.labels == []) | .text"
    """
    from gliclass_spark.cli.output.model_output import classification_document, show_classification
    from gliclass_spark.inference.engine import Engine
    from gliclass_spark.labels import LabelSet

    is_file = labels.endswith((".yaml", ".yml"))
    label_set = LabelSet.from_yaml(labels) if is_file else LabelSet.of(*labels.split(","))
    engine = Engine.from_pretrained(model)
    messages.print(f"{engine}", style="dim", highlight=False, markup=False, soft_wrap=True)
    if not texts or texts == ["-"]:
        _classify_input(engine, label_set)
        return
    for text in texts:
        if os.path.isfile(text):  # noqa: PTH113 - Path.is_file fails for a text that is too long for a path
            _note(f"note: {text} is taken for a text; to classify the lines of the file, write < {text}")
    for text, classification in zip(texts, engine.classify(texts, label_set), strict=True):
        if as_json:
            print_json(classification_document(text, classification))
        else:
            show_classification(console, text, classification, label_set)


def _note(message: str) -> None:
    messages.print(message, highlight=False, markup=False, soft_wrap=True)


class _Speed(ProgressColumn):
    """Texts per second; nothing before the first texts."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f} texts/s" if task.speed else "")


def _classify_input(engine: Engine, label_set: LabelSet) -> None:
    """Print the JSON of each line of standard input as it arrives, and the progress unless the JSON shows it."""
    from gliclass_spark.cli.output.model_output import classification_document
    from gliclass_spark.cli.text_stream import line_batches

    if sys.stdin.isatty():
        _note("reading texts from this terminal, one on each line; Ctrl-D ends")
    columns = TextColumn("{task.completed:,} texts"), _Speed(), TimeElapsedColumn()
    with progress(*columns, disable=console.is_terminal) as bar:
        task = bar.add_task("", total=None)
        for batch in line_batches(sys.stdin):
            for text, classification in zip(batch, engine.classify(batch, label_set), strict=True):
                print_json(classification_document(text, classification))
            bar.advance(task, len(batch))
