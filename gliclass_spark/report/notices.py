"""What a run says first: its story in a few words, and what somebody should look at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Literal

from gliclass_spark.report import words
from gliclass_spark.report.drift import Level
from gliclass_spark.report.facts import Facts, ReportedRun
from gliclass_spark.runs.manifest import FAILED, SUCCEEDED
from gliclass_spark.runs.outcomes import QUARANTINED

Tone = Literal["bad", "warn", "note"]
_TONES: tuple[Tone, ...] = ("bad", "warn", "note")
_DRIFT: tuple[tuple[Level, Tone, str], ...] = (
    (Level.LARGE, "bad", "Large drift"),
    (Level.MODERATE, "warn", "Moderate drift"),
)
_MANY_ERRORS = 0.005
_SLOW = 0.5
# Fewer runs or texts than these say nothing about speed: loading the model is most of the time then.
_RUNS_FOR_SPEED, _TEXTS_FOR_SPEED = 3, 1000


@dataclass(frozen=True)
class Notice:
    """One thing to know, and its name. `link`: the place of the page that says more."""

    tone: Tone
    name: str
    text: str
    link: str | None = None


def headline(run: ReportedRun) -> str:
    for job, manifest in run.jobs.items():
        if manifest.status == FAILED:
            return f"The {job} job failed"
    for job, manifest in run.jobs.items():
        if manifest.status != SUCCEEDED:
            return f"The {job} job has not finished"
    if run.filter is not None:
        kept = run.filter.kept or 0
        came = words.counted(run.filter.rows_in, "document")
        return f"{came} in, {words.number(kept)} kept ({words.share(kept, run.filter.rows_in)})"
    if run.tag is not None:
        tagged = words.number(run.tag.tagged) if run.tag.tagged else "nothing new"
        return f"{words.counted(run.tag.rows_in, 'document')} in, {tagged} tagged"
    return f"{words.counted(run.first.rows_in, 'document')} routed"


def story(run: ReportedRun) -> str:
    """The sentences below the headline: the other counts, the speed, the time."""
    said = []
    if run.filter is not None and run.filter.status == SUCCEEDED:
        rows, rejected = run.filter.rows_in, sum(run.filter.rejected.values())
        quarantined = run.filter.quarantined or 0
        said.append(f"{words.number(rejected)} rejected ({words.share(rejected, rows)})")
        said.append(f"{words.number(quarantined)} quarantined ({words.share(quarantined, rows)})")
    if run.route is not None and run.route.status == SUCCEEDED:
        said.append(f"routed to {words.counted(sum(1 for rows in run.route.routed.values() if rows), 'destination')}")
    sentences = [f"{', '.join(said)}."] if said else []
    if run.tag is not None and run.tag.tagged is not None and run.tag.status == SUCCEEDED:
        sentences.append(_speed(run))
    if run.seconds:
        sentences.append(f"It took {words.duration(run.seconds)}.")
    return " ".join(sentences)


def _speed(run: ReportedRun) -> str:
    if not run.tag or not run.tag.tagged:
        return "Nothing was tagged: every document already had its scores."
    speed = f" at {words.rate(run.texts_per_s)} texts/s" if run.texts_per_s else ""
    everything = "All" if run.tag.tagged == run.tag.rows_in else words.number(run.tag.tagged)
    return f"{everything} {'was' if run.tag.tagged == 1 else 'were'} tagged{speed}."


def notices(facts: Facts) -> list[Notice]:
    """What needs attention, the worst first; empty when all is well."""
    found = [*_unfinished(facts.run), *_waiting(facts.run), *_errors(facts), *_drift(facts), *_slower(facts)]
    return sorted(found, key=lambda notice: _TONES.index(notice.tone))


def _unfinished(run: ReportedRun) -> Iterator[Notice]:
    for job, manifest in run.jobs.items():
        if manifest.status == FAILED:
            yield Notice("bad", "Failed", f"{job}: {manifest.message or 'it left no message'}")
        elif manifest.status != SUCCEEDED:
            more = f": {manifest.message}" if manifest.message else ""
            yield Notice("warn", "Unfinished", f"{job} was {manifest.status} when this page was made{more}")


def _waiting(run: ReportedRun) -> Iterator[Notice]:
    for manifest in run.jobs.values():
        if manifest.waiting:
            text = f"{words.counted(manifest.waiting, 'document')} of the source not tagged yet"
            yield Notice("warn", "Waiting", text, "#flow")
            return  # the jobs behind it wait for the same documents


def _errors(facts: Facts) -> Iterator[Notice]:
    tag = facts.run.tag
    if tag is None or not tag.tagged or not tag.errors or tag.status == FAILED:
        return  # a job that failed for its errors says so itself
    failed = sum(tag.errors.values())
    codes = words.several([f"{code}: {words.number(found)}" for code, found in tag.errors.items()])
    tone: Tone = "warn" if failed / tag.tagged >= _MANY_ERRORS else "note"
    share = words.share(failed, tag.tagged)
    text = f"{words.counted(failed, 'document')} ({share} of the tagged) could not be scored ({codes})"
    yield Notice(tone, "Errors", text, facts.link(QUARANTINED) or "#flow")


def _drift(facts: Facts) -> Iterator[Notice]:
    if facts.drift is None:
        return
    for level, tone, name in _DRIFT:
        moved = [label.label for label in facts.drift.labels if label.level == level]
        if moved:
            runs = words.counted(len(facts.drift.reference), "run")
            yield Notice(tone, name, f"{words.several(moved)}, against the last {runs}", "#labels")
    if facts.drift.other_model and not facts.drift.unknown:
        yield Notice(
            "note", "Some of the runs compared with used another model: what moved may be its doing", "#labels"
        )


def _slower(facts: Facts) -> Iterator[Notice]:
    speeds = [
        run.texts_per_s
        for run in facts.earlier
        if run.texts_per_s and run.tag and (run.tag.tagged or 0) >= _TEXTS_FOR_SPEED
    ]
    tag, speed = facts.run.tag, facts.run.texts_per_s
    if not speed or tag is None or (tag.tagged or 0) < _TEXTS_FOR_SPEED or len(speeds) < _RUNS_FOR_SPEED:
        return
    usual = median(speeds)
    if speed < _SLOW * usual:
        text = f"{words.rate(speed)} texts/s when tagging, less than half of the usual {words.rate(usual)}"
        yield Notice("warn", "Slow", text, "#throughput")
