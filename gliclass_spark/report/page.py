"""The page: everything that a run says about itself, in one HTML file that needs no other."""

from __future__ import annotations

from collections.abc import Sequence

from gliclass_spark.labels import LabelSet
from gliclass_spark.report import drift, figures, flow
from gliclass_spark.report.facts import Facts
from gliclass_spark.report.notices import headline, notices, story
from gliclass_spark.report.svg import Drawing
from gliclass_spark.report.template import filled
from gliclass_spark.runs.manifest import Manifest
from gliclass_spark.runs.outcomes import KINDS, MOST_LISTED, Sample

_EXCERPT_CHARS = 280
_LABELS_SHOWN = 8


def render(
    manifests: Sequence[Manifest],
    history: Sequence[Manifest],
    samples: Sequence[Sample] = (),
    *,
    label_set: LabelSet | None = None,
) -> str:
    """The HTML page of one run, whole in itself: no script, and nothing that is fetched.

    manifests: this run's, of any jobs in any state; the last one of each job counts. history: the
    succeeded ones of earlier runs of the pipeline, oldest first. samples: documents to look at, for
    each of `outcomes`. label_set: if it is the one that was asked, its thresholds are drawn.

    The same arguments give the same page. Raises ManifestError without manifests.
    """
    facts, drawing = Facts.of(manifests, history, samples), Drawing()
    return filled(
        "page.html.j2",
        facts=facts,
        run=facts.run,
        headline=headline(facts.run),
        story=story(facts.run),
        notices=notices(facts),
        rows=flow.rows(facts),
        flows=figures.flows(facts, drawing),
        rejected=figures.rejected(facts, drawing),
        rejected_course=figures.rejected_course(facts, drawing),
        labels=figures.label_rows(facts, label_set, drawing),
        speed_course=figures.speed_course(facts, drawing),
        steps=figures.steps(facts, drawing),
        kinds={kind: found for kind in KINDS if (found := [s for s in samples if s.outcome.kind == kind])},
        drift=facts.drift,
        levels=drift.Level,
        limits=drift,
        excerpt=_excerpt,
        labels_shown=_LABELS_SHOWN,
        most_listed=MOST_LISTED,
    )


def warnings(manifests: Sequence[Manifest], history: Sequence[Manifest]) -> list[str]:
    """What the page of these would warn of, a line each, the worst first; empty when all is well."""
    found = notices(Facts.of(manifests, history, ()))
    return [f"{notice.name}: {notice.text}" for notice in found if notice.tone != "note"]


def _excerpt(text: str) -> str:
    """The beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _EXCERPT_CHARS else f"{line[: _EXCERPT_CHARS - 1]}…"
