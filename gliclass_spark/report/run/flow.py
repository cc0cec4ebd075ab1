"""Flow of rows: the counts of every outcome, as table rows and as streams of the Sankey chart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gliclass_spark.report.charts.sankey import Stream
from gliclass_spark.report.drawing import ACCENT, BAD, INK, MUTED, WARN
from gliclass_spark.report.run.facts import RunFacts
from gliclass_spark.runs.manifest import Manifest
from gliclass_spark.runs.outcomes import KEPT, QUARANTINED, REJECTED, ROUTED


@dataclass(frozen=True)
class Row:
    """One count of a job. total: the documents that it is a share of; depth 1: a part of the row above."""

    job: str
    name: str
    documents: int
    total: int
    tone: str = "plain"
    depth: int = 0
    link: str | None = None


def rows(facts: RunFacts) -> list[Row]:
    """Return every count of the run's jobs, in the order of the pipeline."""
    run = facts.run
    counts: list[Row] = []
    if run.tag is not None:
        counts += _tag_rows(facts, run.tag)
    if run.filter is not None:
        counts += _filter_rows(facts, run.filter)
    if run.route is not None:
        counts += _route_rows(facts, run.route)
    return counts


def _tag_rows(facts: RunFacts, tag: Manifest) -> Iterator[Row]:
    rows_in, tagged = tag.rows_in, tag.tagged or 0
    yield Row("tag", "documents read", rows_in, rows_in)
    yield Row("tag", "sent to the model", tagged, rows_in, "good")
    if tag.retagged:
        yield Row("tag", "of these tagged before", tag.retagged, tagged, depth=1)
    for code, documents in tag.errors.items():
        yield Row("tag", f"could not be scored: {code}", documents, tagged, "bad", 1, facts.link(QUARANTINED, code))
    yield Row("tag", "up-to-date scores kept", rows_in - tagged, rows_in)
    if tag.tombstoned:
        yield Row("tag", "deleted from the source", tag.tombstoned, 0)
    if tag.waiting:
        yield Row("tag", "waiting to be tagged", tag.waiting, 0, "warn")


def _filter_rows(facts: RunFacts, filtered: Manifest) -> Iterator[Row]:
    rows_in = filtered.rows_in
    yield Row("filter", "documents filtered", rows_in, rows_in)
    yield Row("filter", "kept", filtered.kept or 0, rows_in, "good", link=facts.link(KEPT))
    rejected = sum(filtered.rejected.values())
    yield Row("filter", "rejected", rejected, rows_in, "warn", link=facts.link(REJECTED))
    for reason, documents in filtered.rejected.items():
        yield Row("filter", reason, documents, rows_in, "warn", 1, facts.link(REJECTED, reason))
    yield Row("filter", "quarantined", filtered.quarantined or 0, rows_in, "bad", link=facts.link(QUARANTINED))
    if filtered.waiting:
        yield Row("filter", "waiting to be tagged", filtered.waiting, 0, "warn")


def _route_rows(facts: RunFacts, routed: Manifest) -> Iterator[Row]:
    total = routed.routed_documents or 0
    yield Row("route", "kept documents", total, total)
    for name, documents in routed.routed.items():
        yield Row("route", f"to {name}", documents, total, "good", 1, facts.link(ROUTED, name))


def streams(facts: RunFacts) -> list[Stream]:
    """Return the streams to draw: one if the routed documents are the kept ones, else one for each job.

    A job without rows has none.
    """
    run = facts.run
    routes: list[Stream] = []
    by_job: list[Stream] = []
    if run.route is not None:
        routes = [Stream(name, count, ACCENT, facts.link(ROUTED, name)) for name, count in run.route.routed.items()]
    if run.filter is not None:
        same = run.route is not None and run.route.routed_documents == run.filter.kept
        by_job.append(_filter_stream(facts, run.filter, routes if same else []))
        routes = [] if same else routes
    elif run.tag is not None:
        tagged = run.tag.tagged or 0
        parts = [Stream("tagged", tagged, ACCENT), Stream("up to date", run.tag.rows_in - tagged, MUTED)]
        by_job.append(Stream("in", run.tag.rows_in, INK, parts=parts))
    if routes and run.route is not None:
        by_job.append(Stream("kept", run.route.routed_documents or 0, INK, parts=routes))
    return [stream for stream in by_job if stream.documents]


def _filter_stream(facts: RunFacts, filtered: Manifest, routes: list[Stream]) -> Stream:
    reasons = [Stream(name, count, WARN, facts.link(REJECTED, name)) for name, count in filtered.rejected.items()]
    quarantined = filtered.quarantined or 0
    errors = facts.run.tag.errors if facts.run.tag is not None else {}
    codes = [Stream(code, count, BAD, facts.link(QUARANTINED, code)) for code, count in errors.items()]
    # If some documents failed in an earlier run, this run's error codes don't add up to the quarantined.
    complete = sum(errors.values()) == quarantined
    parts = [
        Stream("kept", filtered.kept or 0, ACCENT, facts.link(KEPT), routes),
        Stream("rejected", sum(filtered.rejected.values()), WARN, facts.link(REJECTED), reasons),
        Stream("quarantined", quarantined, BAD, facts.link(QUARANTINED), codes if complete else []),
    ]
    return Stream("in", filtered.rows_in, INK, parts=parts)
