"""Errors of the gate: how often it refuses an equal candidate, and promotes a worse one.

    python -m benchmarks.feedback.gate_power [--draws 100] [--seeds 5] [--out FOLDER]

Champion and candidate are simulated on golden sets of several sizes. Labels have frequencies of a Zipf distribution,
1.3 to a text. Each model misses 35% of a text's labels, and gives wrong ones in proportion to their frequency; half of
the decisions are made by chance that the two models share. A worse candidate has higher rates, and so loses about .03
or .06 macro-F1 in every label, or about .3 in one label alone. The rules on the golden set are judged, by the gate's
own functions, beside those of earlier builds: a lower bound of the gain of -0.01, and no label that loses .1.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.folders import RESULTS
from gliclass_spark.config.retraining import GateRules
from gliclass_spark.labels.thresholds import Mask
from gliclass_spark.retraining.gate.f1_statistics import f1_gain, label_f1, loss_p_values
from gliclass_spark.retraining.gate.judge import lost_labels, shows_gain, shows_loss
from gliclass_spark.retraining.gate.simulated_models import simulate_models

SIZES = (200, 500, 2000)
LABELS = (6, 20)
LABELS_OF_A_TEXT = 1.3
# By how much a candidate's error rates exceed the champion's, and in which labels.
CANDIDATES = {"equal": (0.0, "all"), "loses .03": (0.03, "all"), "loses .06": (0.06, "all"), "one label": (0.35, "one")}
PRESETS = {"normal": GateRules(), "cautious": GateRules.model_validate("cautious")}
_BLOCK_TEXTS = 20_000


@dataclass(frozen=True)
class Outcome:
    """The share of draws in which a candidate was refused, by rules."""

    texts: int
    labels: int
    candidate: str
    seed: int
    f1_loss: float
    refused: dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draws", type=int, default=100, help="golden sets for each seed")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    outcomes = list(simulate(options.draws, options.seeds))
    show(outcomes, Console())
    options.out.mkdir(parents=True, exist_ok=True)
    document = {"draws": options.draws, "outcomes": [asdict(outcome) for outcome in outcomes]}
    (options.out / "gate_power.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def simulate(draws: int, seeds: int) -> Iterator[Outcome]:
    for texts in SIZES:
        for labels in LABELS:
            for candidate in CANDIDATES:
                for seed in range(seeds):
                    yield _outcome(draws, texts, labels, candidate, seed)


def _outcome(draws: int, texts: int, labels: int, candidate: str, seed: int) -> Outcome:
    rng = np.random.default_rng([seed, texts, labels, list(CANDIDATES).index(candidate)])
    refused: dict[str, list[Mask]] = {}
    losses = []
    for start in range(0, draws, block := max(_BLOCK_TEXTS // texts, 1)):
        masks = draw_models(rng, min(block, draws - start), texts, labels, *CANDIDATES[candidate])
        gain, verdicts = judge(*masks)
        losses.append(-gain)
        for name, verdict in verdicts.items():
            refused.setdefault(name, []).append(verdict)
    shares = {name: float(np.concatenate(parts).mean()) for name, parts in refused.items()}
    return Outcome(texts, labels, candidate, seed, float(np.concatenate(losses).mean()), shares)


def draw_models(
    rng: np.random.Generator, draws: int, texts: int, labels: int, excess: float, where: str
) -> tuple[Mask, Mask, Mask]:
    """Return the labels of candidate, champion and truth, each (draws, texts, labels)."""
    frequencies = 1 / np.arange(1, labels + 1) ** 0.7
    frequencies = np.minimum(frequencies / frequencies.sum() * LABELS_OF_A_TEXT, 0.9).astype(np.float32)
    targets = rng.random((draws, texts, labels), dtype=np.float32) < frequencies
    excesses = np.full(labels, excess, dtype=np.float32)
    if where == "one":
        excesses[1:] = 0
    return *simulate_models(rng, targets, frequencies, excesses), targets


def judge(candidate: Mask, champion: Mask, targets: Mask) -> tuple[NDArray[np.float64], dict[str, Mask]]:
    """Return the gain in macro-F1 and which draws the rules refuse, by rules; all (draws,)."""
    gain = f1_gain(candidate, champion, targets)
    p_values = loss_p_values(candidate, champion, targets)
    losses = np.nan_to_num(label_f1(champion, targets)) - np.nan_to_num(label_f1(candidate, targets))
    losses[targets.sum(axis=-2) < PRESETS["normal"].min_label_texts] = np.nan
    refused = {
        name: shows_loss(gain, rules) | ~shows_gain(gain, rules) | lost_labels(losses, p_values, rules).any(axis=-1)
        for name, rules in PRESETS.items()
    }
    earlier = (gain.lower_bound(0.975) < -0.01) | (losses > 0.1).any(axis=-1)
    return gain.gain, {"earlier": earlier, **refused}


def show(outcomes: list[Outcome], console: Console) -> None:
    table = Table(title="candidates refused: mean of the seeds (lowest to highest)")
    for heading in ("golden texts", "labels", "candidate", "F1 lost", "earlier rules", *PRESETS):
        table.add_column(heading, justify="left" if heading == "candidate" else "right")
    for key in dict.fromkeys((outcome.texts, outcome.labels, outcome.candidate) for outcome in outcomes):
        seeds = [outcome for outcome in outcomes if (outcome.texts, outcome.labels, outcome.candidate) == key]
        cells = [spread([outcome.refused[name] for outcome in seeds]) for name in ("earlier", *PRESETS)]
        lost = statistics.mean(outcome.f1_loss for outcome in seeds)
        table.add_row(f"{key[0]:,}", str(key[1]), key[2], f"{lost:.3f}", *cells)
    console.print(table)


def spread(shares: list[float]) -> str:
    return f"{statistics.mean(shares):.0%} ({min(shares):.0%}-{max(shares):.0%})"


if __name__ == "__main__":
    main()
