"""Recipes for the embedded model, at equal cost: each is trained for as many processor seconds, and asked the same.

    python benchmarks/recipes.py --train FOLDER [--train FOLDER] --dev FOLDER [--minutes 10] [--only NAME]

The folders hold tables with the columns text, labels and split; a second --train is for the recipe that learns from
more. Recipes that results/recipes.json already holds from such a processor are left out: delete a row to have it made
again. A faster processor makes more steps of the same seconds, so compare rows of one processor.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import machine
import torch
from rich.console import Console
from rich.table import Table

from gliclass_spark.inference.engine import Engine
from gliclass_spark.training.evaluate import sample, score
from gliclass_spark.training.from_encoder import Attention, untrained_model
from gliclass_spark.training.labelled import LabelledSet, read_sets
from gliclass_spark.training.questions import QuestionConfig
from gliclass_spark.training.supervised import TrainingConfig, train

ROWS = 600
TRIED_STEPS = 10
QUESTION = QuestionConfig(texts=48)
CONFIG = TrainingConfig(question=QUESTION, max_text_tokens=64, save_steps=10_000)


@dataclass(frozen=True)
class Recipe:
    """more_data: whether it learns from every --train, not from the first alone."""

    attention: Attention = "bi-encoder"
    config: TrainingConfig = CONFIG
    more_data: bool = False


def asking(**changes: Any) -> Recipe:
    return Recipe(config=replace(CONFIG, question=replace(QUESTION, **changes)))


def learning(**changes: Any) -> Recipe:
    return Recipe(config=replace(CONFIG, **changes))


RECIPES = {
    "bi-encoder": Recipe(),
    "label-cached": Recipe("label-cached"),
    "joint": Recipe("joint"),
    "with more data": Recipe(more_data=True),
    "averaged with its start, 0.7 : 0.3": learning(start_share=0.3),
    "encoder_lr 1e-5": learning(encoder_lr=1e-5),
    "encoder_lr 1e-4": learning(encoder_lr=1e-4),
    "heads alone": learning(encoder_lr=0.0),
    "the upper three of six layers alone": learning(frozen_layers=3),
    "pulled to its start": learning(start_pull=0.1),
    "low-rank additions, rank 16": learning(lora_rank=16, encoder_lr=3e-4),
    "focal loss alone": learning(softmax_weight=0.0),
    "softmax loss alone": learning(focal_weight=0.0),
    "label_smoothing 0.05": learning(label_smoothing=0.05),
    "texts of 128 tokens": learning(max_text_tokens=128),
    "at most 20 labels": asking(max_labels=20),
    "no foreign labels": asking(foreign_share=0.0),
    "a third of the labels foreign": asking(foreign_share=0.33),
    "one text in five joined": asking(joined_share=0.2),
    "16 texts a question": asking(texts=16),
    "the hardest quarter of false labels": learning(hard_share=0.25),
    "labels in other words": asking(reworded_share=0.3),
    "all sets alike": asking(size_power=0.0),
    "the embedded model's": Recipe(
        config=replace(
            CONFIG,
            question=QuestionConfig(
                texts=16, min_labels=2, max_labels=100, foreign_share=0.0, reworded_share=0.3, size_power=0.1
            ),
            encoder_lr=5e-5,
            focal_weight=0.1,
            max_text_tokens=128,
        ),
        more_data=True,
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=Path, action="append", required=True)
    parser.add_argument("--dev", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--only", choices=list(RECIPES), action="append", help="may be given several times")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = options.out / "recipes.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    asked = [sample(labelled, ROWS) for labelled in read_sets(options.dev, "test")]
    here = processor({"machine": machine.describe()})
    for name in options.only or RECIPES:
        if (name, here) in {(row["recipe"], processor(row)) for row in found}:
            continue
        sets = [labelled for folder in options.train for labelled in read_sets(folder)]
        few = read_sets(options.train[0])
        row = tried(RECIPES[name], sets if RECIPES[name].more_data else few, asked, options.minutes * 60)
        found.append({"recipe": name, **row, "machine": machine.describe()})
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        show(found, Console(width=160))


def tried(recipe: Recipe, sets: list[LabelledSet], asked: list[LabelledSet], seconds: float) -> dict[str, Any]:
    """Train for so many processor seconds, and ask the dev sets."""
    short = replace(recipe.config, steps=TRIED_STEPS)
    with tempfile.TemporaryDirectory() as folder:
        took = trained(recipe.attention, sets, short, Path(folder))
    steps = max(TRIED_STEPS, int(seconds / took * TRIED_STEPS))
    with tempfile.TemporaryDirectory() as folder:
        took = trained(recipe.attention, sets, replace(recipe.config, steps=steps), Path(folder))
        engine = Engine.from_pretrained(folder)
        scores = {each.name: each.macro_f1 for each in (score(engine, of, name="") for of in asked)}
    return {
        "steps": steps,
        "texts": steps * recipe.config.question.texts,
        "seconds": took,
        "mean": statistics.mean(scores.values()),
        "scores": scores,
    }


def trained(attention: Attention, sets: list[LabelledSet], config: TrainingConfig, folder: Path) -> float:
    """Train into `folder`; gives the processor seconds, which other work beside it does not change."""
    model, tokenizer = untrained_model(attention)
    started = time.process_time()
    train(model, tokenizer, sets, config, folder)
    return time.process_time() - started


def processor(row: dict[str, Any]) -> str:
    """What decides how many steps fit into the seconds."""
    return " ".join((row["machine"]["cpu"], *row["machine"]["capabilities"]))


def show(found: list[dict[str, Any]], console: Console) -> None:
    """A table for each processor."""
    for place in dict.fromkeys(map(processor, found)):
        table = Table(title=f"macro-F1 on sets that were not trained on; {place}")
        for cell in headings(found):
            table.add_column(cell, justify="left" if cell == "recipe" else "right")
        for row in sorted((row for row in found if processor(row) == place), key=lambda each: -each["mean"]):
            scores = [f"{score:.3f}" for score in row["scores"].values()]
            table.add_row(row["recipe"], str(row["steps"]), f"{row['seconds']:.0f}", f"{row['mean']:.3f}", *scores)
        console.print(table)


def headings(found: list[dict[str, Any]]) -> Iterator[str]:
    yield from ("recipe", "steps", "CPU s", "mean")
    yield from found[0]["scores"]


if __name__ == "__main__":
    main()
