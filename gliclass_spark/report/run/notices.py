"""Notices of a run report: headline, summary, and what needs attention."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Literal

from gliclass_spark.report import number_format
from gliclass_spark.report.run.drift import Level
from gliclass_spark.report.run.facts import ReportedRun, RunFacts
from gliclass_spark.runs.due.retraining_due import RetrainingDue
from gliclass_spark.runs.manifest import FAILED, SUCCEEDED
from gliclass_spark.runs.outcomes import QUARANTINED
from gliclass_spark.runs.unlabelled import MOST, unlabelled_share

Severity = Literal["bad", "warn", "note"]
_SEVERITIES: tuple[Severity, ...] = ("bad", "warn", "note")
_DRIFT: tuple[tuple[Level, Severity, str], ...] = (
    (Level.LARGE, "bad", "Large drift"),
    (Level.MODERATE, "warn", "Moderate drift"),
)
_HIGH_ERROR_RATIO = 0.005
_SLOW_RATIO = 0.5
# With fewer runs or texts, loading the model dominates the time and speeds can't be compared.
_MIN_RUNS_FOR_SPEED, _MIN_TEXTS_FOR_SPEED = 3, 1000


@dataclass(frozen=True)
class Notice:
    """Something that needs attention. link: the anchor of the section with the details."""

    severity: Severity
    name: str
    text: str
    link: str | None = None


def headline(run: ReportedRun) -> str:
    """Return the run's outcome in a few words: documents in and kept, or the job that failed."""
    for job, manifest in run.jobs.items():
        if manifest.status == FAILED:
            return f"The {job} job failed"
    for job, manifest in run.jobs.items():
        if manifest.status != SUCCEEDED:
            return f"The {job} job has not finished"
    if run.filter is not None:
        kept = run.filter.kept or 0
        rows_in = number_format.counted(run.filter.rows_in, "document")
        return f"{rows_in} in, {number_format.number(kept)} kept ({number_format.share(kept, run.filter.rows_in)})"
    if run.tag is not None:
        tagged = number_format.number(run.tag.tagged) if run.tag.tagged else "nothing new"
        return f"{number_format.counted(run.tag.rows_in, 'document')} in, {tagged} tagged"
    return f"{number_format.counted(run.first.rows_in, 'document')} routed"


def summary(run: ReportedRun) -> str:
    """Return the sentences below the headline: the other counts, the speed, the duration."""
    counts = []
    if run.filter is not None and run.filter.status == SUCCEEDED:
        rows, rejected = run.filter.rows_in, sum(run.filter.rejected.values())
        quarantined = run.filter.quarantined or 0
        counts.append(f"{number_format.number(rejected)} rejected ({number_format.share(rejected, rows)})")
        counts.append(f"{number_format.number(quarantined)} quarantined ({number_format.share(quarantined, rows)})")
    if run.route is not None and run.route.status == SUCCEEDED:
        destinations = sum(1 for rows in run.route.routed.values() if rows)
        counts.append(f"routed to {number_format.counted(destinations, 'destination')}")
    sentences = [f"{', '.join(counts)}."] if counts else []
    if run.tag is not None and run.tag.tagged is not None and run.tag.status == SUCCEEDED:
        sentences.append(_speed(run))
    if run.seconds:
        sentences.append(f"It took {number_format.duration(run.seconds)}.")
    return " ".join(sentences)


def _speed(run: ReportedRun) -> str:
    if not run.tag or not run.tag.tagged:
        return "No document had to be tagged: all scores were up to date."
    speed = f" at {number_format.rate(run.texts_per_s)} texts/s" if run.texts_per_s else ""
    subject = "All" if run.tag.tagged == run.tag.rows_in else number_format.number(run.tag.tagged)
    return f"{subject} {'was' if run.tag.tagged == 1 else 'were'} tagged{speed}."


def notices(facts: RunFacts, due: RetrainingDue | None = None) -> list[Notice]:
    """Return what needs attention, most severe first; empty if nothing does."""
    unsorted = [
        *_unfinished(facts.run),
        *_waiting(facts.run),
        *_errors(facts),
        *_unlabelled(facts.run),
        *_drift(facts),
        *_slow(facts),
        *_due(due),
    ]
    return sorted(unsorted, key=lambda notice: _SEVERITIES.index(notice.severity))


def _due(due: RetrainingDue | None) -> Iterator[Notice]:
    for reason in due.reasons if due is not None else ():
        yield Notice("warn", "Retraining due", reason, "#retraining")


def _unfinished(run: ReportedRun) -> Iterator[Notice]:
    for job, manifest in run.jobs.items():
        if manifest.status == FAILED:
            yield Notice("bad", "Failed", f"{job}: {manifest.message or 'no message'}")
        elif manifest.status != SUCCEEDED:
            details = f": {manifest.message}" if manifest.message else ""
            yield Notice("warn", "Unfinished", f"{job} was {manifest.status} when this page was written{details}")


def _waiting(run: ReportedRun) -> Iterator[Notice]:
    for manifest in run.jobs.values():
        if manifest.waiting:
            text = f"{number_format.counted(manifest.waiting, 'document')} of the source not tagged yet"
            yield Notice("warn", "Waiting", text, "#flow")
            return  # later jobs wait for the same documents


def _errors(facts: RunFacts) -> Iterator[Notice]:
    tag = facts.run.tag
    if tag is None or not tag.tagged or not tag.errors or tag.status == FAILED:
        return  # the message of a job that failed because of its errors counts them already
    failed = sum(tag.errors.values())
    codes = number_format.enumeration([f"{code}: {number_format.number(count)}" for code, count in tag.errors.items()])
    severity: Severity = "warn" if failed / tag.tagged >= _HIGH_ERROR_RATIO else "note"
    share = number_format.share(failed, tag.tagged)
    text = f"{number_format.counted(failed, 'document')} ({share} of the tagged) could not be scored ({codes})"
    yield Notice(severity, "Errors", text, facts.link(QUARANTINED) or "#flow")


def _unlabelled(run: ReportedRun) -> Iterator[Notice]:
    if run.tag is None or run.tag.status != SUCCEEDED:
        return
    share = unlabelled_share(run.tag)
    if share > MOST:
        text = (
            f"{number_format.share(share)} or more of the tagged documents got none. If you expect more: compare the "
            "scores below with the thresholds, fit these with “gliclass-spark calibrate”, or give each text its best "
            "label (top_k: 1 and threshold: 0)"
        )
        yield Notice("note", "Few labels", text, "#labels")  # may be right: the labels of some pipelines are rare


def _drift(facts: RunFacts) -> Iterator[Notice]:
    if facts.drift is None:
        return
    for level, severity, name in _DRIFT:
        labels = [label.label for label in facts.drift.labels if label.level == level]
        if labels:
            runs = number_format.counted(len(facts.drift.reference), "run")
            yield Notice(
                severity, name, f"{number_format.enumeration(labels)}, compared with the last {runs}", "#labels"
            )
    if facts.drift.other_model and not facts.drift.not_compared:
        yield Notice(
            "note",
            "Other model",
            "some of the runs compared with used another model, which may explain drift",
            "#labels",
        )


def _slow(facts: RunFacts) -> Iterator[Notice]:
    speeds = [
        run.texts_per_s
        for run in facts.earlier
        if run.texts_per_s and run.tag and (run.tag.tagged or 0) >= _MIN_TEXTS_FOR_SPEED
    ]
    tag, speed = facts.run.tag, facts.run.texts_per_s
    if not speed or tag is None or (tag.tagged or 0) < _MIN_TEXTS_FOR_SPEED or len(speeds) < _MIN_RUNS_FOR_SPEED:
        return
    usual = median(speeds)
    if speed < _SLOW_RATIO * usual:
        text = (
            f"{number_format.rate(speed)} texts/s when tagging, less than half of the usual {number_format.rate(usual)}"
        )
        yield Notice("warn", "Slow", text, "#throughput")
