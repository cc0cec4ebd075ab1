"""Recipes for the embedded model: each changes one thing about the recipe that it was trained with, at equal cost.

    python -m benchmarks.quality.recipes --train FOLDER [--train FOLDER] --dev FOLDER [--texts 24000] [--seeds 2]
        [--processes 1] [--keep FOLDER]

The folders have tables with the columns text, labels and split. Each training reads the same number of texts, whatever
the size of a batch, and is evaluated on the train splits of --dev: recipes are chosen by them, and the test splits stay
unseen. Trainings in results/recipes.json, of the same device and number of texts, are not repeated: delete a row to
repeat it. With --keep their weights are kept, for devtools/embed_model.py to average.
"""

from __future__ import annotations

from gliclass_spark.inference.openmp import limit_spinning

limit_spinning()

# isort: split
import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from benchmarks import machine
from benchmarks.folders import RESULTS
from gliclass_spark.config.training import Attention, SamplingConfig, TrainingConfig
from gliclass_spark.inference.engine import Engine
from gliclass_spark.model.architectures.uni_encoder import UniEncoderModel
from gliclass_spark.model.checkpoint import Model
from gliclass_spark.training.data.labelled_text import LabelledSet, read_sets
from gliclass_spark.training.evaluation.evaluate import sample, score
from gliclass_spark.training.from_encoder import untrained_model
from gliclass_spark.training.losses import classification_loss, focal_loss
from gliclass_spark.training.supervised import Loss, train

EVALUATED_ROWS = 500
TRAINING_ROWS = 13_000  # of a set
SAMPLING = SamplingConfig(
    texts=32, min_labels=2, max_labels=100, negative_share=0.0, reworded_share=0.3, size_power=0.1
)
CONFIG = TrainingConfig(sampling=SAMPLING, encoder_lr=5e-5, focal_weight=0.1, max_text_tokens=128, save_steps=1_000_000)
DESCRIBED = "wordnet_described"
LossOf = Callable[[Model, TrainingConfig], Loss]


@dataclass(frozen=True)
class Recipe:
    """How a model is trained.

    without: prefixes of the names of sets that it is not trained on. joint: changes to a joint model's config.json.
    frozen_layers: number of the encoder's lowest layers that are not trained. loss: of model and configuration, in
    place of `classification_loss`.
    """

    attention: Attention = "bi-encoder"
    config: TrainingConfig = CONFIG
    without: tuple[str, ...] = (DESCRIBED,)
    joint: dict[str, Any] = field(default_factory=dict)
    frozen_layers: int = 0
    loss: LossOf | None = None

    def sets(self, sets: Sequence[LabelledSet]) -> list[LabelledSet]:
        return [labelled for labelled in sets if not labelled.name.startswith(self.without)]

    def untrained(self) -> tuple[Model, PreTrainedTokenizerFast]:
        model, tokenizer = untrained_model(self.attention)
        if isinstance(model, UniEncoderModel) and self.joint:
            changed = UniEncoderModel(replace(model.config, **self.joint))
            shapes = {name: weight.shape for name, weight in changed.state_dict().items()}
            kept = {name: weight for name, weight in model.state_dict().items() if shapes.get(name) == weight.shape}
            changed.load_state_dict(kept, strict=False)
            model = changed
        encoder_layers(model.encoder_model)[: self.frozen_layers].requires_grad_(False)
        return model, tokenizer


def encoder_layers(encoder: nn.Module) -> nn.ModuleList:
    """Return the layers of an encoder of transformers, the lowest first."""
    return next(module for module in encoder.modules() if isinstance(module, nn.ModuleList))


def focal_loss_alone(model: Model, config: TrainingConfig) -> Loss:
    def loss(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
        focal = focal_loss(
            logits, targets, focal_alpha=None, focal_gamma=config.focal_gamma, label_smoothing=0.0, weights=weights
        )
        return config.focal_weight * focal * logits.shape[1]

    return loss


def l2_sp(l2_sp_weight: float) -> LossOf:
    """Add a penalty on the squared distance from the starting weights (L2-SP, arXiv 1802.01483, eq. 3)."""

    def loss_of(model: Model, config: TrainingConfig) -> Loss:
        embeddings = model.encoder_model.get_input_embeddings().weight  # not trained
        trained = [weight for weight in model.parameters() if weight is not embeddings]
        start_weights = [weight.detach().clone() for weight in trained]

        def loss(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
            distances = [
                (weight - start.to(weight.device)).square().sum()
                for weight, start in zip(trained, start_weights, strict=True)
            ]
            penalty = l2_sp_weight / 2 * torch.stack(distances).sum()
            return classification_loss(logits, targets, weights, config) + penalty

        return loss

    return loss_of


def hard_negatives(share: float) -> LossOf:
    """Restrict the focal loss to the true labels and a share of each text's false ones."""

    def loss_of(model: Model, config: TrainingConfig) -> Loss:
        def loss(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
            mask = hard_negative_mask(logits, targets, share)
            return classification_loss(logits, targets, mask if weights is None else weights * mask, config)

        return loss

    return loss_of


def hard_negative_mask(logits: Tensor, targets: Tensor, share: float) -> Tensor:
    """Return weights (texts, labels), 0 for all but the `share` of a text's false labels with the highest logits.

    At least one of them is kept, where there is one (online hard example mining, arXiv 1604.03540).
    """
    false = targets == 0
    ranks = logits.detach().masked_fill(~false, float("-inf")).argsort(dim=1, descending=True).argsort(dim=1)
    kept = (share * false.sum(dim=1, keepdim=True)).ceil().clamp(min=1)
    return (~false | (ranks < kept)).to(logits.dtype)


def sampled(**changes: Any) -> Recipe:
    return Recipe(config=CONFIG.model_copy(update={"sampling": SAMPLING.model_copy(update=changes)}))


def trained(loss: LossOf | None = None, **changes: Any) -> Recipe:
    return Recipe(config=CONFIG.model_copy(update=changes), loss=loss)


RECIPES = {
    "the embedded model's": Recipe(),
    "label-cached, texts attend to labels": Recipe("label-cached"),
    "joint": Recipe("joint"),
    "joint, first-token pooling": Recipe("joint", joint={"pooling_strategy": "first"}),
    "joint, weighted dot product": Recipe("joint", joint={"scorer_type": "weighted-dot", "hidden_size": 384}),
    "some labels with descriptions": Recipe(without=()),
    "without WordNet, Debian, dictionaries": Recipe(without=("wordnet", "debian", "foldoc", "fortunes")),
    "without words and their definitions": Recipe(without=("wordnet_words", DESCRIBED)),
    "without dictionaries": Recipe(without=("foldoc", "fortunes", DESCRIBED)),
    "encoder_lr 1e-5": trained(encoder_lr=1e-5),
    "encoder_lr 2e-5": trained(encoder_lr=2e-5),
    "encoder_lr 1e-4": trained(encoder_lr=1e-4),
    "encoder_lr 2e-4": trained(encoder_lr=2e-4),
    "heads alone": trained(encoder_lr=0.0),
    "upper three of six layers": Recipe(frozen_layers=3),
    "L2-SP weight 0.01": trained(l2_sp(0.01)),
    "L2-SP weight 0.1": trained(l2_sp(0.1)),
    "start_weight_share 0.3": trained(start_weight_share=0.3),
    "lora_rank 16": trained(lora_rank=16, encoder_lr=3e-4),
    "focal loss alone": trained(focal_loss_alone, focal_weight=1.0),
    "softmax loss alone": trained(focal_weight=0.0),
    "focal_weight 1": trained(focal_weight=1.0),
    "label_smoothing 0.05": trained(label_smoothing=0.05),
    "hardest quarter of false labels": trained(hard_negatives(0.25), focal_weight=1.0),
    "ema_decay 0.99": trained(ema_decay=0.99),
    "texts of 64 tokens": trained(max_text_tokens=64),
    "at most 20 labels": sampled(max_labels=20),
    "at least 20 labels": sampled(min_labels=20),
    "negative_share 0.33": sampled(negative_share=0.33),
    "joined_share 0.2": sampled(joined_share=0.2),
    "same_source_share 0.7": sampled(same_source_share=0.7),
    "full_window_share 0.05": sampled(full_window_share=0.05),
    "batches of 16 texts": sampled(texts=16),
    "batches of 64 texts": sampled(texts=64),
    "reworded_share 0": sampled(reworded_share=0.0),
    "reworded_share 1": sampled(reworded_share=1.0),
    "size_power 0": sampled(size_power=0.0),
    "size_power 0.5": sampled(size_power=0.5),
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
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    path = options.out / "recipes.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    device = machine.device()
    training_sets = [sample(each, TRAINING_ROWS) for folder in options.train for each in read_sets(folder)]
    dev_sets = [sample(each, EVALUATED_ROWS) for each in read_sets(options.dev, "train")]
    done = {(row["recipe"], row["seed"], row["texts"], row["device"]) for row in results}
    # Processes that share one device's memory must not inherit its state.
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=spawn) as pool:
        rows = [
            pool.submit(run, name, seed, options.texts, RECIPES[name].sets(training_sets), dev_sets, options.keep)
            for seed in range(options.seeds)
            for name in options.only or RECIPES
            if (name, seed, options.texts, device) not in done
        ]
        for row in as_completed(rows):
            results.append({**row.result(), "device": device, "machine": machine.describe()})
            path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
            print("{recipe}, seed {seed}: {mean:.3f}".format(**results[-1]), flush=True)
    show(results, Console(width=160))


def run(
    name: str,
    seed: int,
    texts: int,
    training_sets: list[LabelledSet],
    dev_sets: list[LabelledSet],
    keep: Path | None,
) -> dict[str, Any]:
    """Train on this number of texts, and return the scores on the dev sets."""
    torch.set_num_threads(1)
    recipe = RECIPES[name]
    changes = {"steps": texts // recipe.config.sampling.texts, "seed": seed}
    config = recipe.config.model_copy(update=changes)
    model, tokenizer = recipe.untrained()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) if keep is None else keep / f"{list(RECIPES).index(name)}-{seed}"
        started = time.perf_counter()
        loss = None if recipe.loss is None else recipe.loss(model, config)
        train(model, tokenizer, training_sets, config, folder, loss=loss)
        seconds = time.perf_counter() - started
        engine = Engine.from_pretrained(str(folder))
        scores = {labelled.name: score(engine, labelled, name="").macro_f1 for labelled in dev_sets}
    mean = statistics.mean(scores.values())
    return {"recipe": name, "seed": seed, "texts": texts, "seconds": seconds, "mean": mean, "scores": scores}


def show(results: list[dict[str, Any]], console: Console) -> None:
    """Print a table for each device and number of texts."""
    for group in sorted({(row["device"], row["texts"]) for row in results}):
        table = Table(title="macro-F1 on sets not trained on, mean of the seeds; {}, {:,} texts".format(*group))
        for cell in headings(results):
            table.add_column(cell, justify="left" if cell == "recipe" else "right")
        for cells in summaries([row for row in results if (row["device"], row["texts"]) == group]):
            table.add_row(*cells)
        console.print(table)


def headings(results: Sequence[dict[str, Any]]) -> Iterator[str]:
    yield from ("recipe", "seeds", "mean", "lowest-highest")
    yield from results[0]["scores"]


def summaries(rows: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    """Yield the cells of each recipe, the best first."""
    groups: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["recipe"]].append(row)
    for name, runs in sorted(groups.items(), key=lambda each: -statistics.mean(row["mean"] for row in each[1])):
        means = [row["mean"] for row in runs]
        sets = [statistics.mean(row["scores"][key] for row in runs) for key in runs[0]["scores"]]
        spread = f"{min(means):.3f}-{max(means):.3f}"
        yield [name, str(len(runs)), f"{statistics.mean(means):.3f}", spread, *(f"{each:.3f}" for each in sets)]


if __name__ == "__main__":
    main()
