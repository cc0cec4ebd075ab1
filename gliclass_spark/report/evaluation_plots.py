"""Figures of an evaluation: quality beside speed, and reliability diagrams."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING

from matplotlib.figure import Figure

if TYPE_CHECKING:
    from gliclass_spark.inference.calibration import Reliability
    from gliclass_spark.training.evaluation.evaluate import Score


def quality_beside_speed(scores: Sequence[Score]) -> Figure:
    """Return one point for each contender and number of shots: mean macro-F1 over the sets, and texts/s."""
    groups: defaultdict[tuple[str, int], list[Score]] = defaultdict(list)
    for score in scores:
        groups[score.contender, score.shots].append(score)
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for (contender, shots), group in groups.items():
        label = f"{contender}, {shots} examples a label" if shots else contender
        speed = median(score.texts_per_s for score in group)
        quality = fmean(score.macro_f1 for score in group)
        axes.scatter(speed, quality, s=70, marker="s" if shots else "o", label=label)
    axes.set(xscale="log", xlabel="texts/s", ylabel="macro-F1, mean of the sets", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    return figure


def reliability_diagram(before: Reliability, after: Reliability) -> Figure:
    """Return accuracy over confidence before and after a calibration; the diagonal is perfect calibration."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    for axes, name, side in zip(figure.subplots(1, 2, sharey=True), ("before", "after"), (before, after), strict=True):
        bins = len(side.counts)
        axes.bar([(index + 0.5) / bins for index in range(bins)], side.accuracy, width=0.9 / bins, color="#4c78a8")
        axes.plot([0, 1], [0, 1], color="#888888", linestyle="--", linewidth=1)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability", title=f"{name}: error {side.error:.3f}")
    figure.axes[0].set_ylabel("share that is right")
    return figure
