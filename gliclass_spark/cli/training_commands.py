"""The commands that make a model better, and that say how good it is."""

from __future__ import annotations

import json
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from gliclass_spark.cli.console import console
from gliclass_spark.config.model_uri import MODEL_URI_FORMS

# Torch takes seconds to import: each command imports what it needs, so that --help is quick.
if TYPE_CHECKING:
    from collections.abc import Sequence

    from gliclass_spark.training.data.labelled_text import Columns, LabelledSet

app = typer.Typer()
_LISTED = 5

Data = Annotated[
    Path,
    typer.Option(help="Labelled texts: a Parquet file, a JSON-lines file, a Delta table, or a folder of such tables."),
]
TextsIn = Annotated[str, typer.Option(help="The column of the texts.")]
LabelsIn = Annotated[str, typer.Option(help="The column of the labels: a string, or a list of strings.")]


class Attention(StrEnum):
    """How a fresh model reads labels."""

    JOINT = "joint"
    LABEL_CACHED = "label-cached"
    BI_ENCODER = "bi-encoder"


@app.command()
def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="Where the checkpoint goes; a training that was stopped continues there.")],
    model: Annotated[
        str, typer.Option(help=f'What to start from: "encoder" for a fresh one, else {MODEL_URI_FORMS}.')
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
    reworded_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of questions that ask their labels in other words.")
    ] = 0.0,
    size_power: Annotated[
        float, typer.Option(min=0, max=1, help="How sets are drawn: 0 all alike, 1 by their numbers of texts.")
    ] = 0.5,
    encoder_lr: Annotated[float, typer.Option(min=0, help="Peak learning rate of the encoder.")] = 3e-5,
    head_lr: Annotated[float, typer.Option(min=0, help="Peak learning rate of projections and scorer.")] = 3e-4,
    lora_rank: Annotated[
        int | None, typer.Option(min=1, help="Train low-rank additions to the encoder instead of the encoder.")
    ] = None,
    start_share: Annotated[
        float, typer.Option(min=0, max=1, help="Share of the start's weights in the average that is saved.")
    ] = 0.0,
    focal_weight: Annotated[
        float, typer.Option(min=0, help="Weight of the focal loss, each label alone, beside that of the best label.")
    ] = 1.0,
    focal_alpha: Annotated[float, typer.Option(help="Weight of true labels; below 0: as false ones.")] = -1.0,
    focal_gamma: Annotated[float, typer.Option(min=0, help="How far to look away from easy labels.")] = 2.0,
    label_smoothing: Annotated[float, typer.Option(min=0, max=1, help="How far a target is from 1 and 0.")] = 0.0,
    max_text_tokens: Annotated[int, typer.Option(min=8, help="Longer texts are cut.")] = 128,
    text_column: TextsIn = "text",
    labels_column: LabelsIn = "labels",
    seed: Annotated[int, typer.Option(help="Decides every question that is asked.")] = 0,
) -> None:
    """Train a model on labelled text. The result is a folder that --model and Engine.from_pretrained take.

    Eight texts a label are a start, in minutes on a processor: --shots 8 --steps 60 --start-share 0.3
    """
    from transformers import ProgressCallback

    from gliclass_spark.checkpoints.uri import resolve_model
    from gliclass_spark.model.checkpoint import load
    from gliclass_spark.training.data.batches import SamplingConfig
    from gliclass_spark.training.data.labelled_text import few_shot, read_sets
    from gliclass_spark.training.from_encoder import untrained_model
    from gliclass_spark.training.supervised import TrainingConfig
    from gliclass_spark.training.supervised import train as trained

    sets = read_sets(data, split, _columns(text_column, labels_column))
    if shots is not None:
        _tell_rare_labels(sets, shots)
        sets = [few_shot(labelled, shots, seed) for labelled in sets]
    console.print(f"{sum(map(len, sets)):,} texts in {len(sets)} sets from {data}", highlight=False)
    config = TrainingConfig(
        steps=steps,
        accumulation=accumulation,
        question=SamplingConfig(texts, min_labels, max_labels, foreign_share, joined_share, reworded_share, size_power),
        encoder_lr=encoder_lr,
        head_lr=head_lr,
        lora_rank=lora_rank,
        start_share=start_share,
        focal_weight=focal_weight,
        focal_alpha=focal_alpha,
        focal_gamma=focal_gamma,
        label_smoothing=label_smoothing,
        max_text_tokens=max_text_tokens,
        seed=seed,
    )
    if model == "encoder":
        start, tokenizer = untrained_model(attention.value)
    else:
        checkpoint = load(resolve_model(model))
        start, tokenizer = checkpoint.model, checkpoint.tokenizer
    place = trained(start, tokenizer, sets, config, out, [ProgressCallback()])
    console.print(f"trained: {place}", soft_wrap=True, highlight=False)


@app.command()
def evaluate(
    data: Data,
    model: Annotated[
        list[str] | None,
        typer.Option(help=f"{MODEL_URI_FORMS}. Give several to compare them."),
    ] = None,
    split: Annotated[str, typer.Option(help="Which rows to ask.")] = "test",
    max_rows: Annotated[int, typer.Option(min=1, help="At most this many texts of each set.")] = 600,
    baselines: Annotated[
        bool, typer.Option(help="Beside each model: similarity by its encoder; with --shots a classifier on it, too.")
    ] = False,
    cross_encoder: Annotated[
        str | None,
        typer.Option(help="A model of pairs to compare with, a folder or a hub id: it is slow."),
    ] = None,
    shots: Annotated[int | None, typer.Option(min=1, help="Also with this many examples of each label.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How often the examples are drawn.")] = 1,
    learn_from: Annotated[str, typer.Option(help="The split that the examples are drawn from.")] = "train",
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Ask texts that stand among the examples, too.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="A folder for scores.json and the picture quality.png.")] = None,
    text_column: TextsIn = "text",
    labels_column: LabelsIn = "labels",
) -> None:
    """Say how good a model is on labelled texts, and how fast: macro-F1 of the best label of each text.

    Of one set alone, also the F1 of each label; --out has them for every set.

    gliclass-spark evaluate --data mail.parquet --baselines --shots 8 --seeds 5
    """
    from gliclass_spark.cli.output.training_output import show_scores
    from gliclass_spark.training.data.labelled_text import read_sets
    from gliclass_spark.training.evaluation.comparison import BaselineComparison

    columns = _columns(text_column, labels_column)
    learned = read_sets(data, learn_from, columns) if shots else []
    _tell_rare_labels(learned, shots or 0)
    comparison = BaselineComparison(
        asked=read_sets(data, split, columns),
        learned=learned,
        max_rows=max_rows,
        allow_overlap=allow_overlap,
    )
    scores = []
    with _progress(console) as progress:
        task = progress.add_task("", total=None)
        for found in comparison.scores(model or ["embedded"], baselines, cross_encoder, shots or 0, seeds):
            scores.append(found)
            progress.update(task, advance=1, description=f"{found.contender} on {found.name}: {found.macro_f1:.3f}")
    show_scores(console, scores)
    if out is not None:
        from gliclass_spark.report.evaluation_plots import quality_beside_speed

        out.mkdir(parents=True, exist_ok=True)
        document = json.dumps([asdict(found) for found in scores], indent=2)
        (out / "scores.json").write_text(document + "\n", encoding="utf-8")
        quality_beside_speed(scores).savefig(out / "quality.png", dpi=150)
        console.print(f"written: {out}/scores.json, {out}/quality.png", soft_wrap=True, highlight=False)


@app.command()
def calibrate(
    labels: Annotated[Path, typer.Option(help="The label set to calibrate: a file of conf/labels.")],
    data: Annotated[Path, typer.Option(help="Labelled texts: Parquet, JSON lines or Delta, with these labels.")],
    out: Annotated[Path, typer.Option(help="Where the calibrated label set goes.")],
    model: Annotated[str, typer.Option(help=f"{MODEL_URI_FORMS}.")] = "embedded",
    split: Annotated[str | None, typer.Option(help="Take these rows alone.")] = None,
    max_rows: Annotated[int, typer.Option(min=4, help="At most this many texts.")] = 2000,
    picture: Annotated[Path | None, typer.Option(help="Draw the reliability diagram here: a .png or .svg.")] = None,
    text_column: TextsIn = "text",
    labels_column: LabelsIn = "labels",
    seed: Annotated[int, typer.Option(help="Decides which half of the texts is learned from.")] = 0,
) -> None:
    """Fit each label's temperature and threshold to labelled texts, so that scores are probabilities.

    Half of the texts are learned from, the other half says what came of it. The label set that is
    written has another hash: documents are tagged with it anew.
    """
    from gliclass_spark.cli.output.training_output import show_calibration
    from gliclass_spark.inference.engine import Engine
    from gliclass_spark.labels import LabelSet
    from gliclass_spark.training.data.labelled_text import read_sets
    from gliclass_spark.training.evaluation.calibrate import calibrate as fit

    label_set = LabelSet.from_yaml(labels)
    [labelled] = read_sets(data, split, _columns(text_column, labels_column))
    with console.status("scoring"):
        found = fit(Engine.from_pretrained(model), label_set, labelled, max_rows=max_rows, seed=seed)
    out.write_text(found.label_set.to_yaml(), encoding="utf-8")
    show_calibration(console, found)
    console.print(f"written: {out}", soft_wrap=True, highlight=False)
    if picture is not None:
        from gliclass_spark.report.evaluation_plots import reliability_diagram

        reliability_diagram(found.before, found.after).savefig(picture, dpi=150)


def _tell_rare_labels(sets: Sequence[LabelledSet], shots: int) -> None:
    from gliclass_spark.training.data.labelled_text import rare_labels

    for labelled in sets:
        rare = rare_labels(labelled, shots)
        if rare:
            listed = ", ".join(f"{name} ({count})" for name, count in list(rare.items())[:_LISTED])
            more = ", ..." if len(rare) > _LISTED else ""
            told = f"{labelled.name}: {len(rare)} of {len(labelled.labels)} labels have fewer than {shots} texts"
            console.print(f"{told}: {listed}{more}", style="yellow", highlight=False, soft_wrap=True, markup=False)


def _progress(shown_on: Console) -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.completed} scores, {task.description}"),
        TimeElapsedColumn(),
        console=shown_on,
    )


def _columns(text: str, labels: str) -> Columns:
    from gliclass_spark.training.data.labelled_text import Columns

    return Columns(text, labels)
