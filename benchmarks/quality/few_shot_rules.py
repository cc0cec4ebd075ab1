"""Rules for how far a training on a few examples counts, compared by what `few_shot_choice` has measured.

The criterion: of the rules whose worst set loses at most MAX_LOSS in the mean of its draws, the one with the highest
mean macro-F1; if there is none, the one whose worst set loses least.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from statistics import fmean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from gliclass_spark.training.held_out_share import SHARES, clear_standard_errors

MAX_LOSS = 0.005
COUNTS = (16, 32, 64, 100, 200)
LEAST_COUNTS = (16, 32)
MOST_COUNTS = (100, 200, 400, None)
# How many standard errors below its mean the gain is taken, and by name how many the gain of n held-out examples must
# exceed for the training to count.
STANDARD_ERRORS = (0.0, 1.0, 2.0)
CLEAR: dict[str, Callable[[int], float]] = {
    "": lambda examples: 2.0,
    ", clear by 2 + 16/n": lambda examples: 2 + 16 / examples,
    ", clear by 2 + 32/n": clear_standard_errors,
    ", clear by 2 + 64/n": lambda examples: 2 + 64 / examples,
}
CLEAR_GAIN_RULE = f"held out folds, 2 s.e., c = {LEAST_COUNTS[0]} to any"

# Measured by a training on one draw of a set, or of a rule over all draws.
Row = dict[str, Any]
# A rule: from a set's rows by training to the F1 that it gives.
Rule = Callable[[dict[str, Row]], float]


def rules() -> Iterator[tuple[str, tuple[str, ...], Rule]]:
    """Yield each rule's name, the trainings that it needs, and the rule."""
    for training, wording in (
        ("whole_model", "weights"),
        ("longer", "twice the steps"),
        ("reworded", "reworded labels"),
        ("low_rank", "rank 4"),
    ):
        for count in COUNTS:
            yield f"{wording}, c = {count}", (training,), partial(averaged_f1, training=training, count=count)
    for count in COUNTS:
        yield f"logits, c = {count}", ("whole_model",), partial(averaged_f1, count=count, key="f1_of_logits")
    for folds in ("held_out_folds", "four_folds"):
        for errors, least, most in product(STANDARD_ERRORS, LEAST_COUNTS, MOST_COUNTS):
            rule = partial(evidence_f1, folds=folds, errors=errors, least_count=least, most_count=most)
            name = f"{folds.replace('_', ' ')}, {errors:g} s.e., c = {least} to {most or 'any'}"
            yield name, ("whole_model", folds), rule
    for clear, likelier, count in product(CLEAR, (True, False), (0, LEAST_COUNTS[0])):
        rule = partial(fallback_f1, clear=clear, likelier=likelier, count=count)
        name = f"{CLEAR_GAIN_RULE}{clear}, else head{' if likelier' if likelier else ''}, c = {count}"
        yield name, ("whole_model", "held_out_folds", "head", "head_folds"), rule
    yield "head", ("head",), lambda rows: float(rows["head"]["f1"][0])
    yield "regression on logits", ("regression",), lambda rows: float(rows["regression"]["f1"][0])


def averaged_f1(rows: dict[str, Row], *, count: float, training: str = "whole_model", key: str = "f1") -> float:
    """F1 with the start's share c / (n + c)."""
    row = rows[training]
    return float(np.interp(count / (row["examples"] + count), SHARES, row[key]))


def evidence_f1(
    rows: dict[str, Row], *, folds: str, errors: float, least_count: float, most_count: float | None
) -> float:
    """F1 with the share whose held-out gain has the highest lower bound, so many standard errors below its mean.

    It is at least c / (n + c) for the smaller count, and at most that for the larger one.
    """
    held_out, row = rows[folds], rows["whole_model"]
    gain, error = gain_and_error(held_out)
    bound = gain - errors * error
    # Of equal bounds, the share that is closest to the start.
    share = SHARES[-1 - int(bound[::-1].argmax())]
    least, most = (1.0 if count is None else count / (row["examples"] + count) for count in (least_count, most_count))
    return float(np.interp(min(max(share, least), most), SHARES, row["f1"]))


def gain_and_error(held_out: Row) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.array(held_out["tempered_gain"]), np.array(held_out["tempered_gain_error"])


def fallback_f1(rows: dict[str, Row], *, clear: str, likelier: bool, count: float) -> float:
    """F1 of the share of evidence_f1 with two standard errors; of the head, with the share c / (n + c), if the gain
    is not clear: see CLEAR.

    likelier: the head only where held-out examples become likelier by it in the mean, else the model as it was.
    """
    gain, error = gain_and_error(rows["held_out_folds"])
    if (gain > CLEAR[clear](rows["held_out_folds"]["examples"]) * error).any():
        return evidence_f1(rows, folds="held_out_folds", errors=2, least_count=LEAST_COUNTS[0], most_count=None)
    if likelier and rows["head_folds"]["tempered_gain"][0] <= 0:
        return float(rows["whole_model"]["f1"][-1])
    return averaged_f1(rows, count=count, training="head")


def rules_table(rows: Sequence[Row]) -> list[Row]:
    """Return a row for each rule over the draws that have all of its trainings, the whole model's and its folds'."""
    by_draw: dict[tuple[str, int], dict[str, Row]] = {}
    for row in rows:
        by_draw.setdefault((row["set"], row["draw"]), {})[row["training"]] = row
    table = []
    for name, needed, rule in rules():
        zero: dict[str, list[float]] = {}
        trained: dict[str, list[float]] = {}
        for (set_name, _), measured in by_draw.items():
            if all(training in measured for training in ("whole_model", "held_out_folds", *needed)):
                zero.setdefault(set_name, []).append(measured["whole_model"]["f1"][-1])
                trained.setdefault(set_name, []).append(rule(measured))
        if not zero:
            continue
        changes = {each: fmean(trained[each]) - fmean(zero[each]) for each in zero}
        worst = min(changes, key=lambda each: changes[each])
        means = [fmean(map(fmean, scores.values())) for scores in (zero, trained)]
        table.append(
            {
                "rule": name,
                "draws": sum(map(len, zero.values())),
                "none": means[0],
                "f1": means[1],
                "gain": means[1] / means[0] - 1,
                "mean_of_gains": fmean(fmean(trained[each]) / fmean(zero[each]) - 1 for each in zero),
                "worst_set": worst,
                "worst_change": changes[worst],
                "sets_that_lose_more": sum(change < -MAX_LOSS for change in changes.values()),
            }
        )
    return table


def chosen_rule(table: Sequence[Row]) -> Row:
    """Return the row of the criterion, among the rules that were measured on the most draws."""
    most = max(row["draws"] for row in table)
    complete = [row for row in table if row["draws"] == most]
    harmless = [row for row in complete if row["worst_change"] >= -MAX_LOSS]
    return max(harmless, key=lambda row: row["f1"]) if harmless else max(complete, key=lambda row: row["worst_change"])


def show(rows: Sequence[Row], title: str) -> None:
    """Print the table, and the rule of the criterion."""
    table = Table(title=title)
    table.add_column("rule")
    for heading in (
        "draws",
        "none",
        "trained",
        "gain",
        "mean of gains",
        "worst set",
        "change",
        f"lose over {MAX_LOSS}",
    ):
        table.add_column(heading, justify="right")
    for row in rows:
        cells = (f"{row['none']:.3f}", f"{row['f1']:.3f}", f"{row['gain']:+.1%}", f"{row['mean_of_gains']:+.1%}")
        harm = (row["worst_set"], f"{row['worst_change']:+.3f}", str(row["sets_that_lose_more"]))
        table.add_row(row["rule"], str(row["draws"]), *cells, *harm)
    console = Console(width=150)
    console.print(table)
    console.print(f"chosen: {chosen_rule(rows)['rule']}")
