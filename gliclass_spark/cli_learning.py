"""The commands that make a model better, and that say how good it is."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

# Torch takes seconds to import: each command imports what it needs, so that --help is quick.
if TYPE_CHECKING:
    from gliclass_spark.training.labelled import Columns

learning = typer.Typer()
console = Console()

Data = Annotated[
    Path,
    typer.Option(help="Labelled texts: a Parquet file, a JSON-lines file, a Delta table, or a folder of such tables."),
]
TextColumn = Annotated[str, typer.Option(help="The column of the texts.")]
LabelsColumn = Annotated[str, typer.Option(help="The column of the labels: a string, or a list of strings.")]


class Attention(StrEnum):
    """How a fresh model reads labels."""

    JOINT = "joint"
    LABEL_CACHED = "label-cached"
    BI_ENCODER = "bi-encoder"


@learning.command()
def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="Where the checkpoint goes; a training that was stopped continues there.")],
    model: Annotated[
        str, typer.Option(help='What to start from: "embedded", a folder, a hub id, or "encoder" for a fresh one.')
    ] = "embedded",
    attention: Annotated[
        Attention, typer.Option(help='How a fresh model reads labels; for "--model encoder" only.')
    ] = Attention.BI_ENCODER,
    split: Annotated[str | None, typer.Option(help="Learn from these rows alone.")] = None,
    shots: Annotated[int | None, typer.Option(min=1, help="Learn from this many texts of each label.")] = None,
    steps: Annotated[int, typer.Option(min=1, help="How often to learn.")] = 1000,
    accumulation: Annotated[int, typer.Option(min=1, help="Questions for each step.")] = 1,
    texts: Annotated[int, typer.Option(min=1, help="Texts of each question.")] = 32,
    min_labels: Annotated[int, typer.Option(min=2, help="Fewest labels of a question.")] = 4,
    max_labels: Annotated[int, typer.Option(min=2, help="Most labels of a question.")] = 100,
    foreign_share: Annotated[float, typer.Option(min=0, max=1, help="Share of labels that are another set's.")] = 0.15,
    joined_share: Annotated[float, typer.Option(min=0, max=1, help="Share of texts made of two.")] = 0.0,
    encoder_lr: Annotated[float, typer.Option(min=0, help="Peak learning rate of the encoder.")] = 3e-5,
    head_lr: Annotated[float, typer.Option(min=0, help="Peak learning rate of projections and scorer.")] = 3e-4,
    lora_rank: Annotated[
        int | None, typer.Option(min=1, help="Train low-rank additions to the encoder instead of the encoder.")
    ] = None,
    focal_alpha: Annotated[float, typer.Option(help="Weight of true labels; below 0: as false ones.")] = -1.0,
    focal_gamma: Annotated[float, typer.Option(min=0, help="How far to look away from easy labels.")] = 2.0,
    label_smoothing: Annotated[float, typer.Option(min=0, max=1, help="How far a target is from 1 and 0.")] = 0.0,
    max_text_tokens: Annotated[int, typer.Option(min=8, help="Longer texts are cut.")] = 128,
    text_column: TextColumn = "text",
    labels_column: LabelsColumn = "labels",
    seed: Annotated[int, typer.Option(help="Decides every question that is asked.")] = 0,
) -> None:
    """Train a model on labelled text. The result is a folder that --model and Engine.from_pretrained take.

    Eight texts a label are a start, in minutes on a processor: --shots 8 --steps 100
    """
    from gliclass_spark.model.checkpoint import load
    from gliclass_spark.model.location import resolve
    from gliclass_spark.training.from_encoder import untrained_model
    from gliclass_spark.training.labelled import few_shot, read_sets
    from gliclass_spark.training.questions import QuestionConfig
    from gliclass_spark.training.supervised import TrainingConfig
    from gliclass_spark.training.supervised import train as trained

    sets = read_sets(data, split, _columns(text_column, labels_column))
    if shots is not None:
        sets = [few_shot(labelled, shots, seed) for labelled in sets]
    console.print(f"{sum(map(len, sets)):,} texts in {len(sets)} sets from {data}", highlight=False)
    config = TrainingConfig(
        steps=steps,
        accumulation=accumulation,
        question=QuestionConfig(texts, min_labels, max_labels, foreign_share, joined_share),
        encoder_lr=encoder_lr,
        head_lr=head_lr,
        lora_rank=lora_rank,
        focal_alpha=focal_alpha,
        focal_gamma=focal_gamma,
        label_smoothing=label_smoothing,
        max_text_tokens=max_text_tokens,
        seed=seed,
    )
    if model == "encoder":
        start, tokenizer = untrained_model(attention.value)
    else:
        checkpoint = load(resolve(model))
        start, tokenizer = checkpoint.model, checkpoint.tokenizer
    console.print(f"trained: {trained(start, tokenizer, sets, config, out)}", soft_wrap=True, highlight=False)


@learning.command()
def evaluate(
    data: Data,
    model: Annotated[str, typer.Option(help='"embedded", a folder, or a hub id.')] = "embedded",
    split: Annotated[str, typer.Option(help="Which rows to ask.")] = "test",
    max_rows: Annotated[int, typer.Option(min=1, help="At most this many texts of each set.")] = 600,
    text_column: TextColumn = "text",
    labels_column: LabelsColumn = "labels",
) -> None:
    """Ask a model for the best label of each text, and print the macro-F1 on every labelled set."""
    from gliclass_spark.inference.engine import Engine
    from gliclass_spark.show import show_scores
    from gliclass_spark.training.evaluate import zero_shot
    from gliclass_spark.training.labelled import read_sets

    sets = read_sets(data, split, _columns(text_column, labels_column))
    engine = Engine.from_pretrained(model)
    console.print(f"{engine}", style="dim", highlight=False, markup=False)
    with console.status("scoring"):
        scores = [zero_shot(engine, labelled, max_rows=max_rows) for labelled in sets]
    show_scores(console, model, scores)


def _columns(text: str, labels: str) -> Columns:
    from gliclass_spark.training.labelled import Columns

    return Columns(text, labels)
