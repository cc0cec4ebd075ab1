"""The figures of a verdict's page: what a retraining has to show, put into charts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from markupsafe import Markup

from gliclass_spark.report import verdict_charts as charts
from gliclass_spark.report import words
from gliclass_spark.report.svg import Drawing

LABELS_SHOWN = 25


@dataclass(frozen=True)
class SetRow:
    """A set that was judged on: the gate's comparison, its gain as a chart, and its labels that changed most.

    labels: how many the set has in all, of which `labels_shown` are in the chart.
    """

    found: Mapping[str, Any]
    gain: float
    gain_chart: Markup
    labels: int
    labels_shown: int
    labels_chart: Markup | None


@dataclass(frozen=True)
class Curve:
    name: str
    about: str
    chart: Markup


def sets(comparisons: Sequence[Mapping[str, Any]], drawing: Drawing) -> list[SetRow]:
    """The gains of all sets have one scale."""
    ends = [abs(end) for found in comparisons for end in (*found["f1_interval"], _gain(found))]
    extent = max(ends, default=0.0) or 1.0
    return [_set_row(found, extent, drawing) for found in comparisons]


def _set_row(found: Mapping[str, Any], extent: float, drawing: Drawing) -> SetRow:
    (low, high), gain = found["f1_interval"], _gain(found)
    described = f"Gain {gain:+.3f}, between {low:+.3f} and {high:+.3f}"
    pairs = _pairs(found)
    shown = sorted(pairs, key=lambda pair: -abs(pair.change))[:LABELS_SHOWN]
    shown.sort(key=lambda pair: pair.change)
    labels_chart = None
    if shown:
        told = "; ".join(f"{pair.name}: {pair.text}" for pair in shown)
        labels_chart = drawing.svg(charts.dumbbells(shown), f"F1 by label, champion and candidate. {told}")
    gain_chart = drawing.svg(charts.gain(gain, low, high, extent), described)
    return SetRow(found, gain, gain_chart, len(pairs), len(shown), labels_chart)


def _gain(found: Mapping[str, Any]) -> float:
    return float(found["candidate"]["macro_f1"] - found["champion"]["macro_f1"])


def _pairs(found: Mapping[str, Any]) -> list[charts.Pair]:
    """The labels that a text of the set has, or was given by one of the two."""
    pairs = []
    for label, texts in found["label_texts"].items():
        before, after = (found[side]["f1"].get(label) for side in ("champion", "candidate"))
        if before is None and after is None:
            continue
        one, other = ("–" if value is None else f"{value:.2f}" for value in (before, after))
        pairs.append(charts.Pair(label, before, after, f"{one} → {other}, {words.counted(texts, 'text')}"))
    return pairs


def curves(supervised: Mapping[str, Any], ppo: Mapping[str, Any], drawing: Drawing) -> list[Curve]:
    """Those that have points."""
    wanted = (
        ("Supervised: loss", "lower is better", supervised["curve"], "loss"),
        ("PPO: reward", "mean of the actions of a step", ppo["curve"], "reward"),
        ("PPO: distance from the supervised candidate", "KL divergence, in nats", ppo["curve"], "kl"),
        (
            "PPO: effective sample size",
            "as many actions of equal weight would say as much",
            ppo["curve"],
            "effective_sample_size",
        ),
    )
    found = (_curve(name, about, points, key, drawing) for name, about, points, key in wanted)
    return [each for each in found if each is not None]


def _curve(name: str, about: str, points: Sequence[Mapping[str, float]], key: str, drawing: Drawing) -> Curve | None:
    known = [(point["step"], point[key]) for point in points if key in point and isfinite(point[key])]
    if not known:
        return None
    steps, values = zip(*known, strict=True)
    ends = f"{values[0]:.3g} at step {steps[0]:,.0f}, {values[-1]:.3g} at step {steps[-1]:,.0f}"
    return Curve(name, about, drawing.svg(charts.curve(steps, values), f"{name}: {ends}"))
