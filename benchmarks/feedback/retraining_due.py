"""How often "retraining is due" is a false alarm within a year, and how soon drift is detected.

    python -m benchmarks.feedback.retraining_due [--histories 100] [--seed 0] [--out FOLDER]

Pipelines of one run each night are simulated, with 20 to 800 documents and five labels. The logits of a label's scores
have a standard deviation of 1 within a run, and their mean one of .3 between runs, for every label on its own. In some,
the mean of one label moves on a night, by two or more times that. Reviewers look at ten documents each night, and
reject a label of 20% of them; in some, of 40% from a night on. The tests, which are valid over all looks, are
compared with ones at 1% that are repeated every night.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.special import logit, ndtr

from benchmarks.folders import RESULTS
from gliclass_spark.runs.due.rejected_labels import MIN_DOCUMENTS, ReviewedDocument, rejection_rise
from gliclass_spark.runs.due.retraining_due import DRIFT, REJECTIONS
from gliclass_spark.runs.due.score_drift import drift_shown_at, exchange_p_value

NIGHTS, LABELS, BINS = 365, 5, 10
# Nights after a change in which it is to be detected.
WAIT = 30
BETWEEN_RUNS = 0.3
CHANGES = [(night, shift) for night in (10, 20, 60, 180) for shift in (0.6, 1.0)]
RISES = (20, 60, 180)
REVIEWED, REJECTED, REJECTED_AFTER = 10, 0.2, 0.4
_NIGHTLY, _FIRST_NIGHTLY = 0.01, 10

Histories = NDArray[np.float64]
# The nights after which each history raises an alarm, None for never.
Alarms = list[int | None]


@dataclass(frozen=True)
class Outcome:
    """The alarms of a test over simulated histories.

    change: what happens, and from which night on; None if nothing does.
    alarms: share of the histories with an alarm; of those with a change, within WAIT nights after it. nights: after the
    change, the median of those alarms, None without one.
    """

    test: str
    change: str | None
    night: int | None
    histories: int
    alarms: float
    nights: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--histories", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    outcomes = [*drifts(options.histories, options.seed), *rejections(options.histories, options.seed)]
    show(outcomes, Console())
    options.out.mkdir(parents=True, exist_ok=True)
    rows = [{name: "" if value is None else value for name, value in asdict(each).items()} for each in outcomes]
    document = {"seed": options.seed, "rows": rows}
    (options.out / "retraining_due.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def drifts(count: int, seed: int) -> Iterator[Outcome]:
    tests: dict[str, Callable[[Histories, int], int | None]] = {
        "drift": lambda history, start: drift_shown_at(history, DRIFT),
        "drift, nightly": lambda history, start: first(
            night
            for night in range(max(start, _FIRST_NIGHTLY), len(history) + 1)
            if exchange_p_value(history[:night]) <= _NIGHTLY
        ),
    }
    for night, shift in [(None, 0.0), *CHANGES]:
        rng = np.random.default_rng([seed, night or 0, int(10 * shift)])
        nights = NIGHTS if night is None else night + WAIT
        histories = [simulate_scores(rng, nights, night, shift) for _ in range(count)]
        for name, test in tests.items():
            # A test each night takes minutes for a history of a year.
            some = histories[: max(count // 4, 1)] if name == "drift, nightly" else histories
            alarms = [test(history, (night or 0) + 1) for history in some]
            yield _outcome(name, f"one label moves by {shift:g}", night, alarms)


def rejections(count: int, seed: int) -> Iterator[Outcome]:
    for night in (None, *RISES):
        rng = np.random.default_rng([seed, night or 0, 1])
        nights = NIGHTS if night is None else night + WAIT
        histories = [simulate_reviews(rng, nights, night) for _ in range(count)]
        for name, significance in (("rejections", REJECTIONS), ("rejections, nightly", None)):
            alarms = [_rejection_alarm(reviews, significance, (night or 0) + 1) for reviews in histories]
            yield _outcome(name, f"{REJECTED:.0%} to {REJECTED_AFTER:.0%} are rejected", night, alarms)


def _rejection_alarm(reviews: list[ReviewedDocument], significance: float | None, start: int) -> int | None:
    """Return the first night of an alarm. significance: None for a look each night at the first look's level."""
    shown = []
    for night in range(start, len(reviews) // REVIEWED + 1):
        known = reviews[: night * REVIEWED]
        if significance is None:
            shown.append((night, is_nightly_rise(known)))
        else:
            rise = rejection_rise(known, significance)
            shown.append((night, rise is not None and rise.excess > 0))
    return first(night for night, is_shown in shown if is_shown)


def is_nightly_rise(reviews: list[ReviewedDocument]) -> bool:
    """Return whether the share of rejected labels has risen between the halves, by a score test at 1%."""
    if len(reviews) < 2 * MIN_DOCUMENTS:
        return False
    rejected = np.array([review.rejected for review in reviews], dtype=np.float64)
    half = len(rejected) // 2
    pooled = rejected.mean()
    error = np.sqrt(pooled * (1 - pooled) * (1 / half + 1 / (len(rejected) - half)))
    return bool(1 - ndtr((rejected[half:].mean() - rejected[:half].mean()) / max(error, 1e-9)) <= _NIGHTLY)


def simulate_scores(rng: np.random.Generator, nights: int, night: int | None, shift: float) -> Histories:
    """Return histograms, (nights, LABELS, BINS)."""
    centres = rng.normal(-2.0, BETWEEN_RUNS, (nights, LABELS))
    if night is not None:
        centres[night:, 0] += shift
    edges = np.concatenate([[-np.inf], logit(np.arange(1, BINS) / BINS), [np.inf]])
    shares = np.diff(ndtr(edges - centres[..., np.newaxis]), axis=-1)
    return rng.multinomial(rng.integers(20, 801, (nights, 1)), shares).astype(np.float64)


def simulate_reviews(rng: np.random.Generator, nights: int, night: int | None) -> list[ReviewedDocument]:
    rates = np.full(nights * REVIEWED, REJECTED)
    if night is not None:
        rates[night * REVIEWED :] = REJECTED_AFTER
    return [ReviewedDocument(int(is_rejected), 1) for is_rejected in rng.random(len(rates)) < rates]


def first(nights: Iterable[int]) -> int | None:
    return next(iter(nights), None)


def _outcome(test: str, change: str, night: int | None, alarms: Alarms) -> Outcome:
    if night is None:
        return Outcome(test, None, None, len(alarms), sum(alarm is not None for alarm in alarms) / len(alarms), None)
    # An alarm before the change is a false one, and leaves nothing to detect.
    waits = [alarm - night for alarm in alarms if alarm is not None and alarm > night]
    median = float(np.median(waits)) if waits else None
    return Outcome(test, change, night, len(alarms), len(waits) / len(alarms), median)


def show(outcomes: list[Outcome], console: Console) -> None:
    table = Table(title=f"alarms within a year without a change, and within {WAIT} nights of one")
    for heading in ("test", "change", "on night", "histories", "alarms", "median nights"):
        table.add_column(heading, justify="left" if heading in ("test", "change") else "right")
    for outcome in outcomes:
        nights = "" if outcome.nights is None else f"{outcome.nights:g}"
        table.add_row(outcome.test, outcome.change or "none", str(outcome.night or ""), f"{outcome.alarms:.0%}", nights)
    console.print(table)


if __name__ == "__main__":
    main()
