"""What people would rather look at than read: quality beside speed, and probabilities beside the truth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from statistics import fmean, median

from matplotlib.figure import Figure

from gliclass_spark.inference.calibration import Reliability
from gliclass_spark.training.evaluation.evaluate import Score


def quality_beside_speed(scores: Sequence[Score]) -> Figure:
    """One point for each contender and number of shots: its mean macro-F1 over the sets, and texts/s."""
    groups: defaultdict[tuple[str, int], list[Score]] = defaultdict(list)
    for found in scores:
        groups[found.contender, found.shots].append(found)
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for (contender, shots), found_of in groups.items():
        label = f"{contender}, {shots} examples a label" if shots else contender
        speed = median(found.texts_per_s for found in found_of)
        quality = fmean(found.macro_f1 for found in found_of)
        axes.scatter(speed, quality, s=70, marker="s" if shots else "o", label=label)
    axes.set(xscale="log", xlabel="texts/s", ylabel="macro-F1, mean of the sets", ylim=(0, 1))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    return figure


def reliability_diagram(before: Reliability, after: Reliability) -> Figure:
    """How often answers are right beside how sure they are; the diagonal is where both are the same."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    for axes, name, found in zip(figure.subplots(1, 2, sharey=True), ("before", "after"), (before, after), strict=True):
        bins = len(found.counts)
        axes.bar([(place + 0.5) / bins for place in range(bins)], found.accuracy, width=0.9 / bins, color="#4c78a8")
        axes.plot([0, 1], [0, 1], color="#888888", linestyle="--", linewidth=1)
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability", title=f"{name}: error {found.error:.3f}")
    figure.axes[0].set_ylabel("share that is right")
    return figure
