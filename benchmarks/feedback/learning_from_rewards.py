"""Ways to learn from rewards alone, compared: the same texts read, the same forward passes, five seeds.

    python -m benchmarks.feedback.learning_from_rewards DATA [--sets NAME,NAME] [--seeds 5] [--out FOLDER]

DATA is a folder of tables with the columns text, labels and split. Texts are joined in pairs, so that most have two
labels. The embedded model decides about documents, with exploration; then a policy learns, whose logits are those of
the embedded model plus a linear function of frozen embeddings for each label. There are three kinds of rewards:

"verdicts": a label that was given earns 1 if it is right and -1 if it is wrong; one that was not given earns nothing.
Measured is the utility of a text: the sum over the labels that the policy gives at a threshold of one half.

"labels": a label that was given earns a reward, one that was not given earns nothing. A right one is worth .9 and a
wrong one -.15, for every second label; .25 and -.9 for the others. Measured is the utility, too.

"documents": a document earns one reward for all of its labels, 2 F - 1 with F its F-beta, beta = .5, in which
precision counts more than recall. Measured is F.

Each contender makes the same number of updates on the same batches of texts. Its learning rate, and PPO's KL weight,
are those with the best mean over the sets on texts of their own, in a draw of their own. "ppo, on-policy" draws actions
of its own, which a pipeline can't do: its rewards are those of new decisions. Intervals are 95%, over seeds (t).
"""

from __future__ import annotations

from gliclass_spark.inference.openmp import limit_spinning

limit_spinning()

# isort: split
import argparse
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import t as student

from benchmarks import machine
from benchmarks.feedback.frozen_sets import CHAMPION, FrozenSet, FrozenTexts, frozen_sets
from benchmarks.feedback.reward_learners import LEARNERS, Kind, Learner, Log, learn
from benchmarks.folders import RESULTS
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.feedback.exploration import sampling_probabilities
from gliclass_spark.labels.thresholds import passing_labels

SHARE = 0.1
DOCUMENTS, TESTS = 1600, 600
RATES = (0.001, 0.003, 0.01)
KL_WEIGHTS = (0.0, 0.1)
TUNING_SEED = 1000
BETA = 0.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", default="clinc_domain,go_emotions,mtop_domain")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    sets = frozen_sets(options.data, options.sets.split(","), DOCUMENTS, TESTS)
    rows, chosen = [], {}
    for kind, name in itertools.product(REWARDS, LEARNERS):
        settings = chosen[f"{kind}, {name}"] = tuned(kind, name, sets)
        for frozen, seed in itertools.product(sets, range(options.seeds)):
            value = result(kind, name, settings, frozen, seed, for_tuning=False)
            rows.append({"rewards": kind, "set": frozen.name, "way": name, "seed": seed, "value": value})
        print(f"{kind}, {name}: {settings}", flush=True)
    for kind, frozen in itertools.product(REWARDS, sets):
        values = ceilings(kind, frozen)
        rows += [{"rewards": kind, "set": frozen.name, "way": way, "seed": 0, "value": each} for way, each in values]
    document = {
        "machine": machine.describe(),
        "model": resolve_model(CHAMPION).digest,
        "exploration": SHARE,
        "documents": DOCUMENTS,
        "settings": chosen,
        "rows": rows,
    }
    path = options.out / "learning_from_rewards.json"
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    show(rows, Console(width=130))
    print(f"written to {path}")


def label_rewards(actions: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the reward of each label that is given, (texts, labels); 0 for the others."""
    is_cheap = np.arange(truth.shape[1]) % 2 == 0
    right, wrong = np.where(is_cheap, 0.9, 0.25), np.where(is_cheap, -0.15, -0.9)
    return actions * np.where(truth, right, wrong)


def verdicts(actions: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return 1 for a right and -1 for a wrong label that is given, (texts, labels); 0 for the others."""
    return actions * np.where(truth, 1.0, -1.0)


def document_f(actions: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return F-beta of each text, (texts,); 1 without labels, true or given."""
    hits, given, true = (actions * truth).sum(axis=1), actions.sum(axis=1), truth.sum(axis=1)
    total = given + BETA**2 * true
    return np.where(total > 0, (1 + BETA**2) * hits / np.maximum(total, 1e-9), 1.0)


REWARDS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "verdicts": verdicts,
    "labels": label_rewards,
    "documents": lambda actions, truth: 2 * document_f(actions, truth)[:, None] - 1,
}


def simulated_log(kind: str, frozen: FrozenSet, seed: int) -> Log:
    """Return the champion's decisions about the documents, with exploration, and their rewards."""
    documents, rng = frozen.documents, np.random.default_rng(seed)
    reached = passing_labels(documents.scores, frozen.label_set)
    sampling = sampling_probabilities(documents.scores, frozen.label_set)
    is_explored = rng.random((len(documents), 1)) < SHARE
    actions = np.where(is_explored, rng.random(reached.shape) < sampling, reached).astype(np.float32)
    propensities = (1 - SHARE) * reached + SHARE * sampling
    return Log(
        features(documents),
        champion_logits(documents),
        actions,
        propensities.astype(np.float32),
        partial(_rewards, REWARDS[kind], documents.truth),
    )


def _rewards(
    rewards: Callable[[np.ndarray, np.ndarray], np.ndarray], truth: np.ndarray, rows: np.ndarray, actions: np.ndarray
) -> np.ndarray:
    return rewards(actions, truth[rows]).astype(np.float32)


def features(texts: FrozenTexts) -> np.ndarray:
    # Embeddings of length 1 have components of about 1/20: in units of 1, the learning rates are the usual ones.
    return texts.vectors * np.float32(texts.vectors.shape[1] ** 0.5)


def champion_logits(texts: FrozenTexts) -> np.ndarray:
    scores = np.clip(texts.scores, 1e-6, 1 - 1e-6)
    return np.log(scores / (1 - scores))


def result(
    kind: str, name: str, settings: tuple[float, float], frozen: FrozenSet, seed: int, *, for_tuning: bool
) -> float:
    """Return what the policy is worth on test texts, after learning: those for tuning, or the others."""
    log = simulated_log(kind, frozen, seed)
    learner: Learner = LEARNERS[name]
    of: Kind = "documents" if kind == "documents" else "labels"
    policy = learn(learner, log, of, rate=settings[0], kl_weight=settings[1], seed=seed)
    rows = slice(0, len(frozen.test) // 2) if for_tuning else slice(len(frozen.test) // 2, None)
    given = policy(features(frozen.test), champion_logits(frozen.test))[rows]
    return value(kind, given, frozen.test.truth[rows])


def value(kind: str, given: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean utility of a text, or the mean F-beta."""
    of_text = document_f(given, truth) if kind == "documents" else REWARDS[kind](given, truth).sum(axis=1)
    return float(of_text.mean())


def tuned(kind: str, name: str, sets: Sequence[FrozenSet]) -> tuple[float, float]:
    """Return learning rate and KL weight with the best mean over the sets, on the texts for tuning."""
    weights = KL_WEIGHTS if name.startswith("ppo") else (0.0,)

    def mean(settings: tuple[float, float]) -> float:
        return float(np.mean([result(kind, name, settings, each, TUNING_SEED, for_tuning=True) for each in sets]))

    return max(itertools.product(RATES, weights), key=mean)


def ceilings(kind: str, frozen: FrozenSet) -> Iterator[tuple[str, float]]:
    """Yield the champion's value, and that of the truth."""
    half = slice(len(frozen.test) // 2, None)
    truth = frozen.test.truth[half]
    yield "before", value(kind, passing_labels(frozen.test.scores, frozen.label_set)[half].astype(float), truth)
    yield "the truth", value(kind, truth.astype(float), truth)


@dataclass(frozen=True)
class Summary:
    mean: float
    margin: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.margin:.3f}" if self.margin else f"{self.mean:.3f}"


def summary(values: Sequence[float]) -> Summary:
    """Return the mean and half of its 95% confidence interval."""
    if len(values) < 2:
        return Summary(float(np.mean(values)), 0.0)
    margin = student.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / len(values) ** 0.5
    return Summary(float(np.mean(values)), float(margin))


def show(rows: Sequence[dict[str, Any]], console: Console) -> None:
    for kind in REWARDS:
        unit = "F-beta" if kind == "documents" else "utility of a text"
        of_kind = [row for row in rows if row["rewards"] == kind]
        sets = list(dict.fromkeys(row["set"] for row in of_kind))
        table = Table(title=f"rewards of {kind}: {unit}, mean and 95% interval over seeds")
        for heading in ("way", *sets, "mean"):
            table.add_column(heading, justify="left" if heading == "way" else "right")
        for way in ("before", *LEARNERS, "the truth"):
            by_set = [[row["value"] for row in of_kind if (row["way"], row["set"]) == (way, name)] for name in sets]
            means = [float(np.mean(seed_values)) for seed_values in zip(*by_set, strict=True)]
            table.add_row(way, *(str(summary(values)) for values in by_set), str(summary(means)))
        console.print(table)


if __name__ == "__main__":
    main()
