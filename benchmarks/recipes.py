"""Recipes for the embedded model: each changes one thing about the one that it was trained by, and all cost alike.

    python benchmarks/recipes.py --train FOLDER [--train FOLDER] --dev FOLDER [--texts 24000] [--seeds 2]
        [--processes 1] [--keep FOLDER]

The folders hold tables with the columns text, labels and split. Each training reads as many texts, whatever stands in
one question, and is asked the train splits of --dev: recipes are chosen by them, and the test splits stay unseen.
Trainings that results/recipes.json already holds, of such a device and as many texts, are left out: delete a row to
have it made again. With --keep their weights are kept, for devtools/embed_model.py to average.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import machine
import torch
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedTokenizerFast

from gliclass_spark.inference.engine import Engine
from gliclass_spark.model.architectures.uni_encoder import UniEncoderModel
from gliclass_spark.model.checkpoint import Model
from gliclass_spark.training.data.batches import SamplingConfig
from gliclass_spark.training.data.labelled_text import LabelledSet, read_sets
from gliclass_spark.training.evaluation.evaluate import sample, score
from gliclass_spark.training.from_encoder import Attention, untrained_model
from gliclass_spark.training.supervised import TrainingConfig, train

ASKED_ROWS = 500
LEARNED_ROWS = 13_000  # of a set
QUESTION = SamplingConfig(texts=32, min_labels=2, max_labels=100, foreign_share=0.0, reworded_share=0.3, size_power=0.1)
CONFIG = TrainingConfig(question=QUESTION, encoder_lr=5e-5, focal_weight=0.1, max_text_tokens=128, save_steps=1_000_000)
DESCRIBED = "wordnet_described"


@dataclass(frozen=True)
class Recipe:
    """without: beginnings of the names of the sets that it does not learn from. joint: of a joint model's config.json,
    what is not as its encoder was trained to be read.
    """

    attention: Attention = "bi-encoder"
    config: TrainingConfig = CONFIG
    without: tuple[str, ...] = (DESCRIBED,)
    joint: dict[str, Any] = field(default_factory=dict)

    def sets(self, found: Sequence[LabelledSet]) -> list[LabelledSet]:
        return [each for each in found if not each.name.startswith(self.without)]

    def untrained(self) -> tuple[Model, PreTrainedTokenizerFast]:
        model, tokenizer = untrained_model(self.attention)
        if not isinstance(model, UniEncoderModel) or not self.joint:
            return model, tokenizer
        changed = UniEncoderModel(replace(model.config, **self.joint))
        sizes = {name: weight.shape for name, weight in changed.state_dict().items()}
        kept = {name: weight for name, weight in model.state_dict().items() if sizes.get(name) == weight.shape}
        changed.load_state_dict(kept, strict=False)
        return changed, tokenizer


def asking(**changes: Any) -> Recipe:
    return Recipe(config=replace(CONFIG, question=replace(QUESTION, **changes)))


def learning(**changes: Any) -> Recipe:
    return Recipe(config=replace(CONFIG, **changes))


RECIPES = {
    "the embedded model's": Recipe(),
    "text reads the labels (label-cached)": Recipe("label-cached"),
    "text and labels together (joint)": Recipe("joint"),
    "joint, its first token read": Recipe("joint", joint={"pooling_strategy": "first"}),
    "joint, a weighted dot product its score": Recipe(
        "joint", joint={"scorer_type": "weighted-dot", "hidden_size": 384}
    ),
    "some labels described": Recipe(without=()),
    "without WordNet, Debian, dictionaries": Recipe(without=("wordnet", "debian", "foldoc", "fortunes")),
    "without words and their definitions": Recipe(without=("wordnet_words", DESCRIBED)),
    "without dictionaries": Recipe(without=("foldoc", "fortunes", DESCRIBED)),
    "encoder_lr 1e-5": learning(encoder_lr=1e-5),
    "encoder_lr 2e-5": learning(encoder_lr=2e-5),
    "encoder_lr 1e-4": learning(encoder_lr=1e-4),
    "encoder_lr 2e-4": learning(encoder_lr=2e-4),
    "heads alone": learning(encoder_lr=0.0),
    "the upper three of six layers alone": learning(frozen_layers=3),
    "pulled to its start, 0.01": learning(start_pull=0.01),
    "pulled to its start, 0.1": learning(start_pull=0.1),
    "averaged with its start, 0.7 : 0.3": learning(start_share=0.3),
    "low-rank additions, rank 16": learning(lora_rank=16, encoder_lr=3e-4),
    "focal loss alone": learning(softmax_weight=0.0, focal_weight=1.0),
    "softmax loss alone": learning(focal_weight=0.0),
    "as much focal as softmax loss": learning(focal_weight=1.0),
    "label_smoothing 0.05": learning(label_smoothing=0.05),
    "the hardest quarter of false labels": learning(hard_share=0.25, focal_weight=1.0),
    "texts of 64 tokens": learning(max_text_tokens=64),
    "at most 20 labels": asking(max_labels=20),
    "20 labels at least": asking(min_labels=20),
    "a third of the labels foreign": asking(foreign_share=0.33),
    "one text in five joined": asking(joined_share=0.2),
    "16 texts a question": asking(texts=16),
    "64 texts a question": asking(texts=64),
    "labels in their own words": asking(reworded_share=0.0),
    "labels always in other words": asking(reworded_share=1.0),
    "all sets alike": asking(size_power=0.0),
    "sets by the root of their size": asking(size_power=0.5),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", type=Path, action="append", required=True)
    parser.add_argument("--dev", type=Path, required=True)
    parser.add_argument("--texts", type=int, default=24_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--only", choices=list(RECIPES), action="append", help="may be given several times")
    parser.add_argument("--keep", type=Path, help="a folder for the checkpoints")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    path = options.out / "recipes.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    device = machine.device()
    learned = [sample(each, LEARNED_ROWS) for folder in options.train for each in read_sets(folder)]
    asked = [sample(each, ASKED_ROWS) for each in read_sets(options.dev, "train")]
    done = {(row["recipe"], row["seed"], row["texts"], row["device"]) for row in found}
    # Two processes that share one device's memory must not inherit its state.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=spawn) as pool:
        rows = [
            pool.submit(tried, name, seed, options.texts, RECIPES[name].sets(learned), asked, options.keep)
            for seed in range(options.seeds)
            for name in options.only or RECIPES
            if (name, seed, options.texts, device) not in done
        ]
        for row in as_completed(rows):
            found.append({**row.result(), "device": device, "machine": machine.describe()})
            path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
            print(f"{found[-1]['recipe']}, seed {found[-1]['seed']}: {found[-1]['mean']:.3f}", flush=True)
    show(found, Console(width=160))


def tried(
    name: str, seed: int, texts: int, learned: list[LabelledSet], asked: list[LabelledSet], keep: Path | None
) -> dict[str, Any]:
    """Train on so many texts, and ask the sets."""
    torch.set_num_threads(1)
    recipe = RECIPES[name]
    config = replace(recipe.config, steps=texts // recipe.config.question.texts, seed=seed)
    model, tokenizer = recipe.untrained()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if keep is None else keep / f"{list(RECIPES).index(name)}-{seed}"
        started = time.perf_counter()
        train(model, tokenizer, learned, config, folder)
        seconds = time.perf_counter() - started
        engine = Engine.from_pretrained(str(folder))
        scores = {each.name: each.macro_f1 for each in (score(engine, of, name="") for of in asked)}
    mean = statistics.mean(scores.values())
    return {"recipe": name, "seed": seed, "texts": texts, "seconds": seconds, "mean": mean, "scores": scores}


def show(found: list[dict[str, Any]], console: Console) -> None:
    """A table for each device and number of texts."""
    for place in sorted({(row["device"], row["texts"]) for row in found}):
        table = Table(title="macro-F1 on sets not trained on, mean of the seeds; {}, {:,} texts".format(*place))
        for cell in headings(found):
            table.add_column(cell, justify="left" if cell == "recipe" else "right")
        for cells in summaries([row for row in found if (row["device"], row["texts"]) == place]):
            table.add_row(*cells)
        console.print(table)


def headings(found: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield from ("recipe", "seeds", "mean", "lowest-highest")
    yield from found[0]["scores"]


def summaries(rows: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    """The cells of each recipe, the best first."""
    groups: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["recipe"]].append(row)
    for name, of in sorted(groups.items(), key=lambda each: -statistics.mean(row["mean"] for row in each[1])):
        means = [row["mean"] for row in of]
        sets = [statistics.mean(row["scores"][key] for row in of) for key in of[0]["scores"]]
        spread = f"{min(means):.3f}-{max(means):.3f}"
        yield [name, str(len(of)), f"{statistics.mean(means):.3f}", spread, *(f"{each:.3f}" for each in sets)]


if __name__ == "__main__":
    main()
