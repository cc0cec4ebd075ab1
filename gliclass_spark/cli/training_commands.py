"""Commands that train, evaluate and calibrate models."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import SpinnerColumn, TimeElapsedColumn

from gliclass_spark.cli.console import console, messages, progress, step
from gliclass_spark.cli.model_commands import RegistryUri
from gliclass_spark.cli.output.json_output import AsJson, print_json
from gliclass_spark.config.model_uri import MODEL_URI_FORMS
from gliclass_spark.errors import ConfigError

# Torch takes seconds to import: each command imports what it needs, so that --help is quick.
if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerFast

    from gliclass_spark.config.training import Attention
    from gliclass_spark.model.checkpoint import Model
    from gliclass_spark.training.data.labelled_text import Columns, LabelledSet
    from gliclass_spark.training.evaluation.evaluate import Score

app = typer.Typer()
_MAX_LISTED = 5

Data = Annotated[
    Path,
    typer.Option(
        help="Labelled texts: a Parquet or JSON-lines file, a Delta table, a folder that Spark wrote, "
        "or one of several such tables."
    ),
]
TextColumnName = Annotated[str, typer.Option(help="The column of the texts.")]
LabelsColumnName = Annotated[str, typer.Option(help="The column of the labels: a string, or a list of strings.")]


@app.command()
def train(
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder of the checkpoint; a training that was stopped continues there.")],
    model: Annotated[
        str, typer.Option(help=f'What to start from: "encoder" for a fresh model, else {MODEL_URI_FORMS}.')
    ] = "embedded",
    config: Annotated[
        Path | None, typer.Option(help="Settings of the training: a file like conf/train/few_shot.yaml.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Train on these rows only.")] = None,
    shots: Annotated[int | None, typer.Option(min=1, help="Train on this many texts of each label.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Optimizer steps. Default: the file's, else 1000.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Seed of the batches and shots. Default: the file's, else 0.")
    ] = None,
    text_column: TextColumnName = "text",
    labels_column: LabelsColumnName = "labels",
) -> None:
    """Train a model on labelled text. The result is a folder that --model and Engine.from_pretrained take.

    Eight texts of each label are a start, in minutes on a CPU: --shots 8 --config conf/train/few_shot.yaml
    """
    from transformers import ProgressCallback

    from gliclass_spark.config.training import TrainingConfig
    from gliclass_spark.training.continuation import data_digest, flat_settings, require_same_training
    from gliclass_spark.training.data.labelled_text import few_shot, read_sets
    from gliclass_spark.training.few_shot import notes, without_contradictions
    from gliclass_spark.training.supervised import train as train_supervised

    settings = TrainingConfig() if config is None else TrainingConfig.from_yaml(config)
    options = {"steps": steps, "seed": seed}
    settings = settings.model_copy(update={name: value for name, value in options.items() if value is not None})
    sets = read_sets(data, split, _columns(text_column, labels_column))
    if shots is not None:
        _warn_of_rare_labels(sets, shots)
        sets = [few_shot(labelled, shots, settings.seed) for labelled in sets]
        for note in (note for labelled in sets for note in notes(labelled)):
            messages.print(note, style="yellow", highlight=False, soft_wrap=True, markup=False)
        sets = [without_contradictions(labelled) for labelled in sets]
    console.print(f"{sum(map(len, sets)):,} texts in {len(sets)} sets from {data}", highlight=False)
    start, tokenizer, digest = _load_start(model, settings.attention)
    digests = {"model": digest[:12], "data": data_digest(sets)[:12]}
    require_same_training(out / "steps", {**digests, **flat_settings(settings)})
    folder = train_supervised(start, tokenizer, sets, settings, out, [ProgressCallback()])
    console.print(f"trained: {folder}", soft_wrap=True, highlight=False)


@app.command()
def evaluate(
    data: Data,
    model: Annotated[
        list[str] | None,
        typer.Option(help=f"{MODEL_URI_FORMS}. Give several to compare them."),
    ] = None,
    split: Annotated[str, typer.Option(help="The rows to evaluate on.")] = "test",
    max_rows: Annotated[int, typer.Option(min=1, help="At most this many texts of each set.")] = 600,
    baselines: Annotated[
        bool, typer.Option(help="Also each model's bare encoder by similarity; with --shots a classifier on it.")
    ] = False,
    cross_encoder: Annotated[
        str | None, typer.Option(help="A cross-encoder to compare with, a folder or a hub id. It is slow.")
    ] = None,
    shots: Annotated[int | None, typer.Option(min=1, help="Also few-shot, with this many texts of each label.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How often few-shot examples are drawn.")] = 1,
    learn_from: Annotated[str, typer.Option(help="The split of the few-shot examples.")] = "train",
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="Evaluate also on texts that are among the examples.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="A folder for scores.json and the figure quality.png.")] = None,
    experiment: Annotated[
        str | None, typer.Option(help="Also log a run for each contender in this MLflow experiment.")
    ] = None,
    registry: RegistryUri = None,
    as_json: AsJson = False,
    text_column: TextColumnName = "text",
    labels_column: LabelsColumnName = "labels",
) -> None:
    """Measure a model on labelled texts: macro-F1 of the best label of each text, and texts per second.

    For a single set also the F1 of each label; --out has them for every set.

    gliclass-spark evaluate --data mail.parquet --baselines --shots 8 --seeds 5
    """
    from gliclass_spark.cli.output.training_output import show_scores
    from gliclass_spark.training.data.labelled_text import read_sets
    from gliclass_spark.training.evaluation.comparison import BaselineComparison

    columns = _columns(text_column, labels_column)
    example_sets = read_sets(data, learn_from, columns) if shots else []
    _warn_of_rare_labels(example_sets, shots or 0)
    comparison = BaselineComparison(
        evaluated=read_sets(data, split, columns),
        example_sets=example_sets,
        max_rows=max_rows,
        allow_overlap=allow_overlap,
    )
    scores = []
    with progress(SpinnerColumn(), "{task.completed} scores, {task.description}", TimeElapsedColumn()) as bar:
        task = bar.add_task("", total=None)
        for score in comparison.scores(model or ["embedded"], baselines, cross_encoder, shots or 0, seeds):
            scores.append(score)
            bar.update(task, advance=1, description=f"{score.contender} on {score.name}: {score.macro_f1:.3f}")
    if as_json:
        print_json({"scores": [asdict(score) for score in scores]})
    else:
        show_scores(console, scores)
    with TemporaryDirectory() as temporary:
        folder = out or (Path(temporary) if experiment is not None else None)
        files = _write_scores(folder, scores) if folder is not None else []
        if out is not None:
            messages.print(f"written: {out}/scores.json, {out}/quality.png", soft_wrap=True, highlight=False)
        if experiment is not None:
            from gliclass_spark.checkpoints.registry import Registry
            from gliclass_spark.training.evaluation.tracked_scores import log_scores

            parameters = {"data": data, "split": split, "max_rows": max_rows, "seeds": seeds}
            runs = log_scores(Registry(registry), experiment, scores, parameters, files)
            shown = f"logged in MLflow's experiment {experiment}: {', '.join(runs)}"
            messages.print(shown, soft_wrap=True, highlight=False, markup=False)


@app.command()
def examples(
    labels: Annotated[Path, typer.Option(help="The label set: a file of conf/labels.")],
    data: Annotated[Path, typer.Option(help="Labelled texts: Parquet, JSON lines or Delta, with these labels.")],
    out: Annotated[Path, typer.Option(help="File of the label set with examples.")],
    shots: Annotated[int, typer.Option(min=1, help="Texts of each label.")] = 8,
    model: Annotated[str, typer.Option(help=f"{MODEL_URI_FORMS}.")] = "embedded",
    split: Annotated[str | None, typer.Option(help="Take these rows only.")] = None,
    max_rows: Annotated[int, typer.Option(min=1, help="Evaluate at most this many of the other texts.")] = 2000,
    text_column: TextColumnName = "text",
    labels_column: LabelsColumnName = "labels",
    seed: Annotated[int, typer.Option(help="Seed of the drawn texts.")] = 0,
) -> None:
    """Add labelled texts to a label set as examples, and measure what they change: learning without a training.

    They are drawn at random, and replace the examples that the label set has. The other texts are scored without and
    with them. The label set has another hash then: documents are tagged with it anew.
    """
    from gliclass_spark.cli.output.training_output import show_scores
    from gliclass_spark.inference.engine import Engine
    from gliclass_spark.labels import LabelSet
    from gliclass_spark.training.evaluation.examples_in_label_set import add_examples

    label_set = LabelSet.from_yaml(labels)
    labelled = _only_set(data, split, _columns(text_column, labels_column), "a label set takes its examples from")
    _warn_of_rare_labels([labelled], shots)
    with step("scoring"):
        engine = Engine.from_pretrained(model)
        added = add_examples(engine, label_set, labelled, name=model, shots=shots, max_rows=max_rows, seed=seed)
    out.write_text(added.label_set.to_yaml(), encoding="utf-8")
    if added.scores:
        show_scores(console, added.scores)
        without, with_examples = (score.macro_f1 for score in added.scores)
        if with_examples < without:
            note = "The labels are worse with these examples: leave them out, or give more of each label."
            console.print(note, style="yellow", highlight=False, soft_wrap=True)
    else:
        console.print("all texts are examples: none is left to evaluate", style="yellow", highlight=False)
    console.print(f"written: {out}", soft_wrap=True, highlight=False)


@app.command()
def calibrate(
    labels: Annotated[Path, typer.Option(help="The label set to calibrate: a file of conf/labels.")],
    data: Annotated[Path, typer.Option(help="Labelled texts: Parquet, JSON lines or Delta, with these labels.")],
    out: Annotated[Path, typer.Option(help="File of the calibrated label set.")],
    model: Annotated[str, typer.Option(help=f"{MODEL_URI_FORMS}.")] = "embedded",
    split: Annotated[str | None, typer.Option(help="Take these rows only.")] = None,
    max_rows: Annotated[int, typer.Option(min=4, help="At most this many texts.")] = 2000,
    picture: Annotated[Path | None, typer.Option(help="Write the reliability diagram here: a .png or .svg.")] = None,
    text_column: TextColumnName = "text",
    labels_column: LabelsColumnName = "labels",
    seed: Annotated[int, typer.Option(help="Seed of the split into halves.")] = 0,
) -> None:
    """Fit each label's temperature, bias and threshold to labelled texts, so that scores are probabilities.

    They are fitted to half of the texts and evaluated on the other. The calibrated label set has another hash:
    documents are tagged with it anew.
    """
    from gliclass_spark.cli.output.training_output import show_calibration
    from gliclass_spark.inference.engine import Engine
    from gliclass_spark.labels import LabelSet
    from gliclass_spark.training.evaluation.calibrate import calibrate as fit_and_evaluate

    label_set = LabelSet.from_yaml(labels)
    labelled = _only_set(data, split, _columns(text_column, labels_column), "a label set is calibrated on")
    with step("scoring"):
        engine = Engine.from_pretrained(model)
        calibration = fit_and_evaluate(engine, label_set, labelled, max_rows=max_rows, seed=seed)
    out.write_text(calibration.label_set.to_yaml(), encoding="utf-8")
    show_calibration(console, calibration)
    console.print(f"written: {out}", soft_wrap=True, highlight=False)
    if picture is not None:
        from gliclass_spark.report.evaluation_plots import reliability_diagram

        reliability_diagram(calibration.before, calibration.after).savefig(picture, dpi=150)


def _only_set(data: Path, split: str | None, columns: Columns, use: str) -> LabelledSet:
    """Return the only table. use: what one table is for, in the message."""
    from gliclass_spark.training.data.labelled_text import read_sets

    sets = read_sets(data, split, columns)
    if len(sets) > 1:
        raise ConfigError(f"--data {data} holds {len(sets)} tables, and {use} one; name it")
    return sets[0]


def _write_scores(folder: Path, scores: Sequence[Score]) -> list[Path]:
    from gliclass_spark.report.evaluation_plots import quality_beside_speed

    folder.mkdir(parents=True, exist_ok=True)
    document, figure = folder / "scores.json", folder / "quality.png"
    document.write_text(json.dumps([asdict(score) for score in scores], indent=2) + "\n", encoding="utf-8")
    quality_beside_speed(scores).savefig(figure, dpi=150)
    return [document, figure]


def _load_start(model: str, attention: Attention) -> tuple[Model, PreTrainedTokenizerFast, str]:
    """Return a model to start from, its tokenizer, and the digest of its weights: none of untrained ones."""
    from gliclass_spark.checkpoints.uri import resolve_model
    from gliclass_spark.model.checkpoint import load
    from gliclass_spark.training.from_encoder import untrained_model

    if model == "encoder":
        return *untrained_model(attention), model
    ref = resolve_model(model)
    checkpoint = load(ref)
    return checkpoint.model, checkpoint.tokenizer, ref.digest


def _warn_of_rare_labels(sets: Sequence[LabelledSet], shots: int) -> None:
    from gliclass_spark.training.data.labelled_text import rare_labels

    for labelled in sets:
        rare = rare_labels(labelled, shots)
        if rare:
            listed = ", ".join(f"{name} ({count})" for name, count in list(rare.items())[:_MAX_LISTED])
            more = ", ..." if len(rare) > _MAX_LISTED else ""
            count = f"{labelled.name}: {len(rare)} of {len(labelled.labels)} labels have fewer than {shots} texts"
            messages.print(f"{count}: {listed}{more}", style="yellow", highlight=False, soft_wrap=True, markup=False)


def _columns(text: str, labels: str) -> Columns:
    from gliclass_spark.training.data.labelled_text import Columns

    return Columns(text, labels)
