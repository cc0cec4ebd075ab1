"""The figures of a page: what a run has to show, put into charts. None where there is nothing to show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean

from markupsafe import Markup

from gliclass_spark.labels import LabelSet
from gliclass_spark.report import charts, words
from gliclass_spark.report.drift import LabelDrift
from gliclass_spark.report.facts import Facts
from gliclass_spark.report.flow import streams
from gliclass_spark.report.svg import ACCENT, MUTED, WARN, Drawing
from gliclass_spark.runs.manifest import HISTOGRAM_BINS

_STEPS_SHOWN = 5


@dataclass(frozen=True)
class LabelRow:
    """A label's row of the table: its drift, its charts, the threshold if it is known."""

    drift: LabelDrift
    scores: Markup | None
    course: Markup | None
    threshold: float | None


def flows(facts: Facts, drawing: Drawing) -> list[Markup]:
    described = "The flow of documents from left to right. The table below holds the same numbers."
    return [drawing.svg(charts.flow(stream), described) for stream in streams(facts)]


def rejected(facts: Facts, drawing: Drawing) -> Markup | None:
    filtered = facts.run.filter
    if filtered is None or not any(filtered.rejected.values()):
        return None
    rows = []
    for reason, documents in sorted(filtered.rejected.items(), key=lambda item: -item[1]):
        shares = [run.rejected_share(reason) for run in facts.shown[:-1]]
        before = [share for share in shares if share is not None]
        share, usual = documents / filtered.rows_in, mean(before) if before else None
        compared = f" (usually {words.share(usual)})" if usual is not None else ""
        rows.append(charts.Bar(reason, share, f"{words.share(share)}{compared}", WARN, usual))
    described = "; ".join(f"{row.name}: {row.text}" for row in rows)
    return drawing.svg(charts.bars(rows), f"Share of the documents rejected by reason. {described}")


def label_rows(facts: Facts, label_set: LabelSet | None, drawing: Drawing) -> list[LabelRow]:
    if facts.drift is None or facts.run.tag is None:
        return []
    asked = label_set is not None and label_set.hash == facts.run.tag.label_set_hash
    thresholds = dict(zip(label_set.names, label_set.thresholds, strict=True)) if label_set and asked else {}
    rows = []
    for label in facts.drift.labels:
        threshold = thresholds.get(label.label)
        scores = course = None
        if any(label.histogram):
            chart = charts.histogram(label.histogram, label.reference_histogram, threshold)
            scores = drawing.svg(chart, _scores_described(label.histogram))
        if label.shares:
            shares = [*label.shares, label.share]
            told = ", ".join(words.share(share) for share in shares)
            course = drawing.svg(charts.course(shares), f"Share from run to run: {told}")
        rows.append(LabelRow(label, scores, course, threshold))
    return rows


def _scores_described(histogram: Sequence[int]) -> str:
    """The quarters of [0, 1], for those who do not see the bars."""
    size = HISTOGRAM_BINS // 4
    quarters = [sum(histogram[start : start + size]) for start in range(0, HISTOGRAM_BINS, size)]
    told = [words.share(found, sum(histogram)) for found in quarters]
    return "Scores from 0 to 1, by quarters: " + ", ".join(told)


def rejected_course(facts: Facts, drawing: Drawing) -> Markup | None:
    shares = [run.rejected_share() for run in facts.shown]
    return _course(facts, shares, words.share, "Share of the documents rejected", WARN, drawing)


def speed_course(facts: Facts, drawing: Drawing) -> Markup | None:
    speeds = [run.texts_per_s for run in facts.shown]
    return _course(facts, speeds, words.rate, "Texts per second", ACCENT, drawing)


def steps(facts: Facts, drawing: Drawing) -> Markup | None:
    rows = []
    for number, (job, manifest) in enumerate(facts.run.jobs.items()):
        paint = MUTED if number % 2 else ACCENT
        for step, seconds in (manifest.step_seconds or {"": manifest.seconds}).items():
            rows.append(charts.Bar(f"{job}: {step}" if step else job, seconds, words.duration(seconds), paint))
    longest = sorted(rows, key=lambda row: -row.value)
    shown, rest = longest[:_STEPS_SHOWN], sum(row.value for row in longest[_STEPS_SHOWN:])
    if not shown[0].value:
        return None
    listed = [row for row in rows if row in shown]  # in the order of the run
    if rest:
        listed.append(charts.Bar("all others", rest, words.duration(rest), MUTED))
    told = ", ".join(f"{row.name} {row.text}" for row in listed)
    return drawing.svg(charts.bars(listed), f"Where the time went: {told}")


def _course(
    facts: Facts,
    values: Sequence[float | None],
    told: Callable[[float], str],
    what: str,
    paint: str,
    drawing: Drawing,
) -> Markup | None:
    """A column for each run that has a value; None if this run has none, or no other to stand beside."""
    known = [(run, value) for run, value in zip(facts.shown, values, strict=True) if value is not None]
    if len(known) < 2 or known[-1][0] is not facts.run:
        return None
    days, texts = [words.day(run.started_at) for run, _ in known], [told(value) for _, value in known]
    chart = charts.columns([value for _, value in known], texts, days, paint)
    listed = ", ".join(f"{day}: {text}" for day, text in zip(days, texts, strict=True))
    return drawing.svg(chart, f"{what} by run. {listed}")
