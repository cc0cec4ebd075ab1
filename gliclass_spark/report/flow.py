"""The flow of rows: the table that counts every outcome, and the streams of its chart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gliclass_spark.report.charts import Stream
from gliclass_spark.report.facts import Facts
from gliclass_spark.report.svg import ACCENT, BAD, INK, MUTED, WARN
from gliclass_spark.runs.manifest import Manifest
from gliclass_spark.runs.outcomes import KEPT, QUARANTINED, REJECTED, ROUTED


@dataclass(frozen=True)
class Row:
    """One count. `whole`: the documents that it is a share of, in the same job. depth 1: a part of the row above."""

    job: str
    name: str
    documents: int
    whole: int
    tone: str = "plain"
    depth: int = 0
    link: str | None = None


def rows(facts: Facts) -> list[Row]:
    """Every count of the run's jobs, in the order of the pipeline."""
    run = facts.run
    found: list[Row] = []
    if run.tag is not None:
        found += _of_tag(facts, run.tag)
    if run.filter is not None:
        found += _of_filter(facts, run.filter)
    if run.route is not None:
        found += _of_route(facts, run.route)
    return found


def _of_tag(facts: Facts, tag: Manifest) -> Iterator[Row]:
    rows_in, tagged = tag.rows_in, tag.tagged or 0
    yield Row("tag", "documents looked at", rows_in, rows_in)
    yield Row("tag", "went through the model", tagged, rows_in, "good")
    if tag.retagged:
        yield Row("tag", "of them had tags before", tag.retagged, tagged, depth=1)
    for code, documents in tag.errors.items():
        yield Row("tag", f"could not be scored: {code}", documents, tagged, "bad", 1, facts.link(QUARANTINED, code))
    yield Row("tag", "had their scores already", rows_in - tagged, rows_in)
    if tag.tombstoned:
        yield Row("tag", "left the source since", tag.tombstoned, 0)
    if tag.waiting:
        yield Row("tag", "wait to be tagged", tag.waiting, 0, "warn")


def _of_filter(facts: Facts, filtered: Manifest) -> Iterator[Row]:
    rows_in = filtered.rows_in
    yield Row("filter", "documents decided about", rows_in, rows_in)
    yield Row("filter", "kept", filtered.kept or 0, rows_in, "good", link=facts.link(KEPT))
    rejected = sum(filtered.rejected.values())
    yield Row("filter", "rejected", rejected, rows_in, "warn", link=facts.link(REJECTED))
    for reason, documents in filtered.rejected.items():
        yield Row("filter", reason, documents, rows_in, "warn", 1, facts.link(REJECTED, reason))
    yield Row("filter", "quarantined", filtered.quarantined or 0, rows_in, "bad", link=facts.link(QUARANTINED))
    if filtered.waiting:
        yield Row("filter", "wait to be tagged", filtered.waiting, 0, "warn")


def _of_route(facts: Facts, routed: Manifest) -> Iterator[Row]:
    whole = routed.routed_documents or 0
    yield Row("route", "kept documents", whole, whole)
    for name, documents in routed.routed.items():
        yield Row("route", f"to {name}", documents, whole, "good", 1, facts.link(ROUTED, name))


def streams(facts: Facts) -> list[Stream]:
    """The streams to draw: one if what was kept is what was routed, else one for each job; none if no row came in."""
    run = facts.run
    routes: list[Stream] = []
    found: list[Stream] = []
    if run.route is not None:
        routes = [Stream(name, count, ACCENT, facts.link(ROUTED, name)) for name, count in run.route.routed.items()]
    if run.filter is not None:
        same = run.route is not None and run.route.routed_documents == run.filter.kept
        found.append(_filtered(facts, run.filter, routes if same else []))
        routes = [] if same else routes
    elif run.tag is not None:
        tagged = run.tag.tagged or 0
        parts = [Stream("tagged now", tagged, ACCENT), Stream("had their scores", run.tag.rows_in - tagged, MUTED)]
        found.append(Stream("in", run.tag.rows_in, INK, parts=parts))
    if routes and run.route is not None:
        found.append(Stream("kept", run.route.routed_documents or 0, INK, parts=routes))
    return [stream for stream in found if stream.documents]


def _filtered(facts: Facts, filtered: Manifest, routes: list[Stream]) -> Stream:
    reasons = [Stream(name, n, WARN, facts.link(REJECTED, name)) for name, n in filtered.rejected.items()]
    quarantined = filtered.quarantined or 0
    errors = facts.run.tag.errors if facts.run.tag is not None else {}
    codes = [Stream(code, n, BAD, facts.link(QUARANTINED, code)) for code, n in errors.items()]
    # Some may have failed in a run before: then the codes of this one don't add up to them.
    known = sum(errors.values()) == quarantined
    parts = [
        Stream("kept", filtered.kept or 0, ACCENT, facts.link(KEPT), routes),
        Stream("rejected", sum(filtered.rejected.values()), WARN, facts.link(REJECTED), reasons),
        Stream("quarantined", quarantined, BAD, facts.link(QUARANTINED), codes if known else []),
    ]
    return Stream("in", filtered.rows_in, INK, parts=parts)
