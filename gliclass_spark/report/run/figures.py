"""Figures of a run report, as SVG with a text alternative; None where there is no data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean

from markupsafe import Markup

from gliclass_spark.labels import LabelSet
from gliclass_spark.report import number_format
from gliclass_spark.report.charts.bars import Bar, columns, histogram, horizontal_bars
from gliclass_spark.report.charts.lines import sparkline
from gliclass_spark.report.charts.sankey import sankey
from gliclass_spark.report.drawing import ACCENT, MUTED, WARN, Drawing
from gliclass_spark.report.run.drift import LabelDrift
from gliclass_spark.report.run.facts import RunFacts
from gliclass_spark.report.run.flow import streams
from gliclass_spark.runs.manifest import HISTOGRAM_BINS

_STEPS_SHOWN = 5


@dataclass(frozen=True)
class LabelRow:
    """A label's row of the table: its drift, its charts, and its threshold if the label set is known."""

    drift: LabelDrift
    scores: Markup | None
    sparkline: Markup | None
    threshold: float | None


def flows(facts: RunFacts, drawing: Drawing) -> list[Markup]:
    """Return the Sankey charts of the run."""
    description = "The flow of documents from left to right. The table below holds the same numbers."
    return [drawing.svg(sankey(stream), description) for stream in streams(facts)]


def rejected(facts: RunFacts, drawing: Drawing) -> Markup | None:
    """Return the chart of the shares rejected by reason, with the mean of the runs before."""
    filtered = facts.run.filter
    if filtered is None or not any(filtered.rejected.values()):
        return None
    bars = []
    for reason, documents in sorted(filtered.rejected.items(), key=lambda item: -item[1]):
        shares = [run.rejected_share(reason) for run in facts.recent[:-1]]
        defined = [share for share in shares if share is not None]
        share, usual = documents / filtered.rows_in, mean(defined) if defined else None
        compared = f" (usually {number_format.share(usual)})" if usual is not None else ""
        bars.append(Bar(reason, share, f"{number_format.share(share)}{compared}", WARN, usual))
    values = "; ".join(f"{bar.name}: {bar.text}" for bar in bars)
    return drawing.svg(horizontal_bars(bars), f"Share of the documents rejected by reason. {values}")


def label_rows(facts: RunFacts, label_set: LabelSet | None, drawing: Drawing) -> list[LabelRow]:
    """Return the table rows of the run's labels, largest drift first."""
    if facts.drift is None or facts.run.tag is None:
        return []
    thresholds: dict[str, float] = {}
    if label_set is not None and label_set.hash == facts.run.tag.label_set_hash:
        thresholds = dict(zip(label_set.names, label_set.thresholds, strict=True))
    rows = []
    for label in facts.drift.labels:
        threshold = thresholds.get(label.label)
        scores = course = None
        if any(label.histogram):
            chart = histogram(label.histogram, label.reference_histogram, threshold)
            scores = drawing.svg(chart, _describe_scores(label.histogram))
        if label.shares:
            shares = [*label.shares, label.share]
            values = ", ".join(number_format.share(share) for share in shares)
            course = drawing.svg(sparkline(shares), f"Share by run: {values}")
        rows.append(LabelRow(label, scores, course, threshold))
    return rows


def _describe_scores(scores_histogram: Sequence[int]) -> str:
    """Return the text alternative of a histogram: the shares of the quarters of [0, 1]."""
    size = HISTOGRAM_BINS // 4
    quarters = [sum(scores_histogram[start : start + size]) for start in range(0, HISTOGRAM_BINS, size)]
    shares = [number_format.share(quarter, sum(scores_histogram)) for quarter in quarters]
    return "Scores from 0 to 1, by quarters: " + ", ".join(shares)


def rejected_by_run(facts: RunFacts, drawing: Drawing) -> Markup | None:
    """Return the column chart of the share rejected."""
    shares = [run.rejected_share() for run in facts.recent]
    return _by_run(facts, shares, number_format.share, "Share of the documents rejected", WARN, drawing)


def speed_by_run(facts: RunFacts, drawing: Drawing) -> Markup | None:
    """Return the column chart of texts per second."""
    speeds = [run.texts_per_s for run in facts.recent]
    return _by_run(facts, speeds, number_format.rate, "Texts per second", ACCENT, drawing)


def steps(facts: RunFacts, drawing: Drawing) -> Markup | None:
    """Return the chart of the longest steps of the jobs."""
    bars = []
    for index, (job, manifest) in enumerate(facts.run.jobs.items()):
        colour = MUTED if index % 2 else ACCENT
        for step, seconds in (manifest.step_seconds or {"": manifest.seconds}).items():
            bars.append(Bar(f"{job}: {step}" if step else job, seconds, number_format.duration(seconds), colour))
    by_length = sorted(bars, key=lambda bar: -bar.value)
    longest, rest = by_length[:_STEPS_SHOWN], sum(bar.value for bar in by_length[_STEPS_SHOWN:])
    if not longest[0].value:
        return None
    shown = [bar for bar in bars if bar in longest]  # in the order of the run
    if rest:
        shown.append(Bar("all others", rest, number_format.duration(rest), MUTED))
    values = ", ".join(f"{bar.name} {bar.text}" for bar in shown)
    return drawing.svg(horizontal_bars(shown), f"Time by step: {values}")


def _by_run(
    facts: RunFacts,
    values: Sequence[float | None],
    text_of: Callable[[float], str],
    title: str,
    colour: str,
    drawing: Drawing,
) -> Markup | None:
    """Return a column for each run that has a value; None if this run or all runs before have none."""
    points = [(run, value) for run, value in zip(facts.recent, values, strict=True) if value is not None]
    if len(points) < 2 or points[-1][0] is not facts.run:
        return None
    days, texts = [number_format.day(run.started_at) for run, _ in points], [text_of(value) for _, value in points]
    chart = columns([value for _, value in points], texts, days, colour)
    listed = ", ".join(f"{day}: {text}" for day, text in zip(days, texts, strict=True))
    return drawing.svg(chart, f"{title} by run. {listed}")
