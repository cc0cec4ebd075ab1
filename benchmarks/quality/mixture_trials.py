"""Trials of the training mixture: each changes one thing about how a model is trained further.

    python -m devtools.training_data mixture DATA MIXTURE --licences all --languages all
    python -m benchmarks.quality.mixture_trials MODEL MIXTURE [--out FOLDER]

Every training starts from MODEL and takes the same number of steps. It is judged by the macro-F1 of the best label on
eight sets that no trial is trained on, and on four in other languages than English, with English labels. The third
version of the embedded model was trained on the eight: the second one, which wasn't, is written by

    git worktree add SECOND 1d59d74
    (cd SECOND; python -m devtools.embed_model embedded --shares 1 --out MODEL)

Trainings that are in results/mixture_trials.json, from the same weights, are not repeated: a run that was stopped
continues. The first seed of all trials comes first.
"""

from __future__ import annotations

from gliclass_spark.inference.openmp import limit_spinning

limit_spinning()

# isort: split
import argparse
import copy
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, Literal

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import Dataset
from transformers import TrainerCallback

from benchmarks import machine
from benchmarks.folders import RESULTS
from benchmarks.quality.recipes import headings, summaries
from benchmarks.quality.soft_targets import (
    Distributions,
    SoftTargetBatches,
    by_distance,
    of_teacher,
    soft_target_loss,
)
from devtools.embed_model import average
from devtools.training_data.mixture import Group, Languages, Licences, listed_sets
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.config.training import SamplingConfig, TrainingConfig
from gliclass_spark.errors import TrainingError
from gliclass_spark.inference.engine import Engine
from gliclass_spark.model import checkpoint
from gliclass_spark.model.architectures.label_cached import LabelCachedModel
from gliclass_spark.model.checkpoint import Checkpoint
from gliclass_spark.training.data.batches import BatchSampler, TrainingBatch
from gliclass_spark.training.data.labelled_text import LabelledSet, read_sets
from gliclass_spark.training.evaluation.evaluate import sample, score
from gliclass_spark.training.losses import classification_loss, softmax_loss
from gliclass_spark.training.supervised import Loss, train_on

SEEDS = 3
JUDGED_ROWS = 200  # of a set
JUDGED = (
    "clickbait",
    "consumer_complaint_issue",
    "hint3_support",
    "medical_abstracts",
    "moderation_category",
    "self_driving_sentiment",
    "sms_spam",
    "trivia_topics",
)
JUDGED_IN_OTHER_LANGUAGES = (
    "assistant_intent_multilingual",
    "german_news_section",
    "sib200_topic",
    "thai_sentiment",
)
SAME_TEXTS = ("consumer_complaint_product",)  # as a judged set's
SAMPLING = SamplingConfig(
    texts=24,
    min_labels=2,
    max_labels=150,
    negative_share=0.05,
    same_source_share=0.7,
    joined_share=0.05,
    reworded_share=0.3,
    full_window_share=0.04,
    size_power=0.1,
)
# The moving average reaches back over a fifth of the steps, as with a decay of .999 and 5,000 steps.
CONFIG = TrainingConfig(
    sampling=SAMPLING,
    steps=250,
    encoder_lr=3e-5,
    head_lr=1e-4,
    scalar_lr=2e-3,
    focal_weight=0.1,
    max_text_tokens=160,
    ema_decay=0.98,
    warmup_share=0.03,
    save_steps=1_000_000,
)
BASE = "the recipe"
BEFORE = "not trained further"
Scores = dict[str, Any]
LAST_WEIGHTS = "the last weights instead of their moving average"
AVERAGED = "average of the recipe's trainings"
SOFT_SHARE = 0.5  # of the softmax loss, where targets are soft


def contrastive_loss(logits: Tensor, targets: Tensor, weights: Tensor | None) -> Tensor:
    """Return the recipe's loss plus the softmax loss of each label's true texts among the texts of the batch."""
    return classification_loss(logits, targets, weights, CONFIG) + softmax_loss(logits.T, targets.T)


@dataclass(frozen=True)
class Trial:
    """config: of the training. loss: in place of `classification_loss`. soft_targets: half of the softmax loss is the
    cross-entropy with these, the distance of ordered labels or the scores of a teacher, the average of the recipe's
    trainings. text_reads_labels: whether texts attend to the labels in every layer. licences, languages: of the sets
    that it is trained on. without: a group of them that is left out.
    """

    config: TrainingConfig = CONFIG
    loss: Loss | None = None
    soft_targets: Literal["distance", "teacher"] | None = None
    text_reads_labels: bool = False
    licences: Licences = "product"
    languages: Languages = "English"
    without: Group | None = None

    def sets(self, sets: Sequence[LabelledSet]) -> list[LabelledSet]:
        names = {
            name
            for folder in listed_sets().values()
            for name, listed in folder.items()
            if listed.is_in(self.licences, self.languages) and listed.group != self.without
        }
        names.difference_update(JUDGED, JUDGED_IN_OTHER_LANGUAGES, SAME_TEXTS)
        return [labelled for labelled in sets if labelled.name in names]

    def trainee(self, start: Checkpoint) -> Checkpoint:
        """Return the model that is trained, with the weights of `start`."""
        if not self.text_reads_labels:
            return copy.deepcopy(start)
        if not isinstance(start.model, LabelCachedModel):
            raise TrainingError(f"{start.ref.uri} is not a label-cached model; give one")
        model = LabelCachedModel(replace(start.model.config, text_reads_labels=True))
        model.load_state_dict(start.model.state_dict(), strict=False)
        return replace(start, model=model.eval())


def trained(**changes: Any) -> Trial:
    return Trial(CONFIG.model_copy(update=changes))


def sampled(**changes: Any) -> Trial:
    return trained(sampling=SAMPLING.model_copy(update=changes))


def without(group: Group) -> Trial:
    return Trial(without=group)


# By worth: a run that is stopped has the first ones.
TRIALS = {
    BASE: Trial(),
    "same_source_share 0": sampled(same_source_share=0.0),
    "reworded_share 0": sampled(reworded_share=0.0),
    "size_power 0.5": sampled(size_power=0.5),
    "half the learning rates": trained(encoder_lr=1.5e-5, head_lr=5e-5, scalar_lr=1e-3),
    "joined_share 0": sampled(joined_share=0.0),
    "each label's texts contrasted, too": Trial(loss=contrastive_loss),
    "full_window_share 0.2": sampled(full_window_share=0.2),
    "ordered labels: targets by their distance": Trial(soft_targets="distance"),
    "the average of the recipe's trainings as teacher": Trial(soft_targets="teacher"),
    "texts read the labels": Trial(CONFIG.model_copy(update={"scalar_lr": 1e-2}), text_reads_labels=True),
    "with sets for research": Trial(licences="all"),
    "with sets in other languages": Trial(languages="all"),
    "without opinion: sentiment, moderation, spam": without("opinion"),
    "without medicine": without("medicine"),
    "without law and complaints": without("law"),
    "without lists, glosses and trivia": without("lists"),
    "without requests and dialogue": without("requests"),
    "without quality of text": without("text_quality"),
    "without security and commands": without("security"),
}


class LastWeights(TrainerCallback):
    """Keeps a copy of the weights after the last step, before their moving average takes their place."""

    def __init__(self) -> None:
        self.state: dict[str, Tensor] = {}

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.state = {name: weight.clone() for name, weight in kwargs["model"].gliclass.state_dict().items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("mixture", type=Path)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = options.out / "mixture_trials.json"
    results = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    reference = resolve_model(options.model)
    start = checkpoint.load(reference)
    training_sets = read_sets(options.mixture, "train")
    english, others = (
        [sample(read_sets(options.mixture / f"{name}.parquet")[0], JUDGED_ROWS) for name in names]
        for names in (JUDGED, JUDGED_IN_OTHER_LANGUAGES)
    )
    done = {(row["recipe"], row["seed"]) for row in results if row["start"] == reference.digest}
    teacher = cache(partial(averaged, start, training_sets))
    for name, seed in pending(done):
        judged = partial(judge, english=english, others=others)
        for row in run(name, seed, start, training_sets, teacher, judged):
            results.append({**row, "start": reference.digest, "machine": machine.describe()})
            print("{recipe}, seed {seed}: {mean:.3f}".format(**row), flush=True)
        path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    show(results, Console(width=200))


def pending(done: set[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """Yield names and seeds of trials that are not done, the first seed of all trials first."""
    trials = [(BEFORE, 0), (AVERAGED, 0), *((name, seed) for seed in range(SEEDS) for name in TRIALS)]
    yield from (trial for trial in trials if trial not in done)


def run(
    name: str,
    seed: int,
    start: Checkpoint,
    training_sets: Sequence[LabelledSet],
    teacher: Callable[[], Checkpoint],
    judge: Callable[[Checkpoint], Scores],
) -> list[dict[str, Any]]:
    """Return the scores of a trial with this seed; for the unchanged recipe also those of its last weights."""
    if name == BEFORE:
        return [{"recipe": name, "seed": seed, "steps": 0, **judge(start)}]
    if name == AVERAGED:
        return [{"recipe": name, "seed": seed, "steps": SEEDS * CONFIG.steps, **judge(teacher())}]
    trial = TRIALS[name]
    distributions: Distributions | None = None
    if trial.soft_targets == "teacher":
        distributions = of_teacher(teacher(), CONFIG.max_text_tokens)
    elif trial.soft_targets == "distance":
        distributions = by_distance
    started = time.perf_counter()
    trainee, last = train_trial(trial, seed, start, training_sets, distributions)
    facts = {"seed": seed, "steps": CONFIG.steps, "seconds": time.perf_counter() - started}
    rows = [{"recipe": name, **facts, **judge(trainee)}]
    if name == BASE:
        trainee.model.load_state_dict(last.state)
        rows.append({"recipe": LAST_WEIGHTS, **facts, **judge(trainee)})
    return rows


def train_trial(
    trial: Trial,
    seed: int,
    start: Checkpoint,
    training_sets: Sequence[LabelledSet],
    distributions: Distributions | None = None,
) -> tuple[Checkpoint, LastWeights]:
    """Return the trained model, whose weights are their moving average, and the last weights."""
    config = trial.config.model_copy(update={"seed": seed})
    trainee, last, loss = trial.trainee(start), LastWeights(), trial.loss
    batches: Dataset[TrainingBatch] = BatchSampler(
        trial.sets(training_sets), config.sampling, size=config.steps, seed=seed
    )
    if distributions is not None:
        batches = SoftTargetBatches(batches, config.steps, distributions)
        loss = soft_target_loss(config, SOFT_SHARE)
    with tempfile.TemporaryDirectory() as folder:
        train_on(batches, trainee.model, trainee.tokenizer, config, Path(folder), [last], loss)
    return trainee, last


def averaged(start: Checkpoint, training_sets: Sequence[LabelledSet]) -> Checkpoint:
    """Return the weight average of the recipe's trainings with each seed."""
    trainings = [train_trial(TRIALS[BASE], seed, start, training_sets)[0] for seed in range(SEEDS)]
    states = [trained.model.state_dict() for trained in trainings]
    result = trainings[0]
    result.model.load_state_dict(
        {name: average([state[name] for state in states], [1.0] * SEEDS) for name in states[0]}
    )
    return result


def judge(trainee: Checkpoint, english: Sequence[LabelledSet], others: Sequence[LabelledSet]) -> Scores:
    # An engine may lower the precision of the model that it is given.
    engine = Engine(copy.deepcopy(trainee))
    scores = macro_f1(engine, english)
    other_languages = macro_f1(engine, others)
    return {
        "mean": statistics.mean(scores.values()),
        "scores": scores,
        "mean_of_other_languages": statistics.mean(other_languages.values()),
        "other_languages": other_languages,
    }


def macro_f1(engine: Engine, sets: Sequence[LabelledSet]) -> dict[str, float]:
    return {labelled.name: score(engine, labelled, name="").macro_f1 for labelled in sets}


def show(results: Sequence[dict[str, Any]], console: Console) -> None:
    """Print a table of the English sets, and one of the others for the trials that were judged on them."""
    title = f"macro-F1 on sets that no trial is trained on, after {CONFIG.steps} steps"
    console.print(table(title, results))
    others = [
        {"recipe": row["recipe"], "mean": row["mean_of_other_languages"], "scores": row["other_languages"]}
        for row in results
        if "other_languages" in row
    ]
    if others:
        console.print(table("the same in other languages", others))


def table(title: str, results: Sequence[dict[str, Any]]) -> Table:
    printed = Table(title=title)
    for cell in headings(results):
        printed.add_column(cell, justify="left" if cell == "recipe" else "right")
    for cells in summaries(results):
        printed.add_row(*cells)
    return printed


if __name__ == "__main__":
    main()
