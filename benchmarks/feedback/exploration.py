"""Bias and variance of what logged feedback says about another model, before and after, by the share of exploration.

    python -m benchmarks.feedback.exploration DATA [--sets NAME,NAME] [--draws 200] [--out FOLDER]

DATA is a folder of tables with the columns text, labels and split. Texts are joined in pairs, so that most have two
labels. The embedded model decides about documents; a label that it gives is judged, right (1) or wrong (-1), and of
those that it does not give nothing is known. From these judgements alone the reward of another policy is estimated,
regression on embeddings with the labels of other texts: per document, the sum over the labels that it gives.

"scores, clipped at 10": explored labels are sampled with their scores as probabilities, and inverse propensities are
clipped at 10. "near thresholds": `exploration.sampling_probabilities`, with weights that are self-normalized, and
clipped only where too few judgements would be effective (`largest_weight`). Bias and standard deviation are over draws
of the exploration; the cost is the reward that a document loses if it is explored.
"""

from __future__ import annotations

from gliclass_spark.inference.openmp import limit_spinning

limit_spinning()

# isort: split
import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from sklearn.linear_model import Ridge

from benchmarks import machine
from benchmarks.feedback.frozen_sets import CHAMPION, FrozenSet, frozen_sets
from benchmarks.folders import RESULTS
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.feedback.exploration import sampling_probabilities
from gliclass_spark.labels.thresholds import passing_labels
from gliclass_spark.training.importance_weights import largest_weight

SHARES = (0.02, 0.05, 0.2)
DOCUMENTS, TESTS = 1600, 600
# Of the regression on 0 and 1: as precise as the embedded model on most of the sets.
CANDIDATE_THRESHOLD = 0.35

Matrix = NDArray[np.float64]
# Propensities, rewards and whether the candidate gives the label, of the judged decisions; number of its labels.
Estimator = Callable[[Matrix, Matrix, NDArray[np.bool_], int], float]


def clipped_at_10(propensities: Matrix, rewards: Matrix, is_given: NDArray[np.bool_], given: int) -> float:
    """Return the sum of the candidate's rewards, by inverse propensity."""
    return float((np.minimum(1 / propensities, 10) * rewards)[is_given].sum())


def self_normalized(propensities: Matrix, rewards: Matrix, is_given: NDArray[np.bool_], given: int) -> float:
    """Return the sum of the candidate's rewards: their weighted mean times its number of labels."""
    weights = np.minimum(1 / propensities, largest_weight(1 / propensities))[is_given]
    return float((weights * rewards[is_given]).sum() / max(weights.sum(), 1e-12)) * given


def scores_as_probabilities(frozen: FrozenSet) -> Matrix:
    return frozen.documents.scores.astype(np.float64)


def near_thresholds(frozen: FrozenSet) -> Matrix:
    return sampling_probabilities(frozen.documents.scores, frozen.label_set)


WAYS: dict[str, tuple[Callable[[FrozenSet], Matrix], Estimator]] = {
    "scores, clipped at 10": (scores_as_probabilities, clipped_at_10),
    "scores, self-normalized": (scores_as_probabilities, self_normalized),
    "near thresholds, self-normalized": (near_thresholds, self_normalized),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", default="clinc_domain,go_emotions,huffpost40,mtop_domain")
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    sets = frozen_sets(options.data, options.sets.split(","), DOCUMENTS, TESTS)
    rows = [row for frozen in sets for row in simulate(frozen, options.draws)]
    path = options.out / "exploration.json"
    settings = {"model": resolve_model(CHAMPION).digest, "documents": DOCUMENTS, "draws": options.draws}
    path.write_text(json.dumps({"machine": machine.describe(), **settings, "rows": rows}, indent=2) + "\n")
    show(rows, Console(width=130))
    print(f"written to {path}")


def simulate(frozen: FrozenSet, draws: int) -> list[dict[str, Any]]:
    """Return one row for each share and way."""
    documents = frozen.documents
    regression = Ridge(alpha=1.0).fit(frozen.test.vectors, frozen.test.truth.astype(float))
    candidate = regression.predict(documents.vectors) > CANDIDATE_THRESHOLD
    reached = passing_labels(documents.scores, frozen.label_set)
    rewards = np.where(documents.truth, 1.0, -1.0)
    count, given = len(documents), int(candidate.sum())
    true_value = float((rewards * candidate).sum() / count)
    rows = []
    for share in SHARES:
        for way, (sampling, estimate) in WAYS.items():
            rng, probabilities = np.random.default_rng(0), sampling(frozen)
            propensities = (1 - share) * reached + share * probabilities
            estimates, explored, costs = [], [], []
            for _ in range(draws):
                is_explored = rng.random((count, 1)) < share
                actions = np.where(is_explored, rng.random(reached.shape) < probabilities, reached)
                judged = propensities[actions], rewards[actions], candidate[actions]
                estimates.append(estimate(*judged, given) / count)
                explored.append(int((actions & ~reached).sum()))
                lost = (rewards * (reached.astype(float) - actions)).sum()
                costs.append(lost / max(int(is_explored.sum()), 1))
            error = np.array(estimates) - true_value
            rows.append(
                {
                    "set": frozen.name,
                    "share": share,
                    "way": way,
                    "true_value": true_value,
                    "bias": float(error.mean()),
                    "standard_deviation": float(error.std()),
                    "root_mean_square_error": float(np.sqrt((error**2).mean())),
                    "explored_judgements": float(np.mean(explored)),
                    "cost_of_an_explored_document": float(np.mean(costs)),
                }
            )
    return rows


def show(rows: list[dict[str, Any]], console: Console) -> None:
    table = Table(title="what feedback says about another model: reward per document")
    for heading in ("set", "share", "way", "truth", "bias", "sd", "rms error", "explored judgements", "cost"):
        table.add_column(heading, justify="left" if heading in ("set", "way") else "right")
    keys = ("true_value", "bias", "standard_deviation", "root_mean_square_error")
    for row in rows:
        numbers = [f"{row[key]:+.3f}" for key in keys]
        judged, cost = f"{row['explored_judgements']:.0f}", f"{row['cost_of_an_explored_document']:.2f}"
        table.add_row(row["set"], str(row["share"]), row["way"], *numbers, judged, cost)
    console.print(table)
    means = Table(title="mean of the sets: absolute bias, standard deviation, explored judgements, cost of a document")
    for heading in ("share", "way", "absolute bias", "sd", "explored judgements", "cost"):
        means.add_column(heading, justify="left" if heading == "way" else "right")
    for share, way in dict.fromkeys((row["share"], row["way"]) for row in rows):
        group = [row for row in rows if (row["share"], row["way"]) == (share, way)]
        bias, deviation, judgements, cost = (
            float(np.mean([abs(row[key]) for row in group]))
            for key in ("bias", "standard_deviation", "explored_judgements", "cost_of_an_explored_document")
        )
        means.add_row(str(share), way, f"{bias:.3f}", f"{deviation:.3f}", f"{judgements:.0f}", f"{cost:.2f}")
    console.print(means)


if __name__ == "__main__":
    main()
