"""Sample runs of a pipeline: manifests whose counts add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gliclass_spark.labels import LabelSet
from gliclass_spark.runs.manifest import HISTOGRAM_BINS, Manifest, VersionRange
from gliclass_spark.runs.outcomes import Sample, SampleDocument, outcomes

LABELS = LabelSet.of("complaint", "invoice", name="mail")
LOW, HIGH = 2, 17


def tag(
    day: int,
    labels: dict[str, int],
    documents: int = 1000,
    errors: dict[str, int] | None = None,
    label_set: LabelSet = LABELS,
) -> Manifest:
    """Return the manifest of a tag job; `labels`: documents by label, which score high, all others low."""
    started = datetime(2026, 11, 1, 2, 0, tzinfo=UTC) + timedelta(days=day)
    scored = documents - sum((errors or {}).values())
    return Manifest(
        run_id=f"run-{day}",
        pipeline="support_mail",
        job="tag",
        status="succeeded",
        sequence=day,
        started_at=started,
        finished_at=started + timedelta(seconds=100),
        source="/data/mail",
        label_set=label_set.name,
        label_set_hash=label_set.hash,
        rules_hash="r" * 64,
        settings_hash="s" * 64,
        model="embedded",
        model_digest="d" * 64,
        rows_in=documents,
        tagged=documents,
        errors=errors or {},
        label_counts={name: count for name, count in labels.items() if count},
        score_histograms={name: histogram(scored, count) for name, count in labels.items()},
        step_seconds={"score": 90.0, "merge": 10.0},
        texts_per_s=200.0,
        tokens=143_000,
        model_loads=2,
    )


def histogram(scored: int, high: int) -> list[int]:
    bins = [0] * HISTOGRAM_BINS
    bins[LOW], bins[HIGH] = scored - high, high
    return bins


def run_of(tagged: Manifest, rejected: dict[str, int], routed: dict[str, int]) -> list[Manifest]:
    """Return the manifests of tag, filter and route; documents neither rejected nor failed are kept."""
    failed = sum(tagged.errors.values())
    kept = tagged.rows_in - failed - sum(rejected.values())
    later = replace(
        tagged,
        tagged=None,
        errors={},
        label_counts={},
        score_histograms={},
        texts_per_s=None,
        started_at=tagged.finished_at,
        finished_at=tagged.finished_at + timedelta(seconds=20),
    )
    at_7 = {name: VersionRange("t", None, 7) for name in ("kept", "rejected", "quarantined")}
    filtered = replace(later, job="filter", kept=kept, rejected=rejected, quarantined=failed, outputs=at_7)
    unrouted = kept - sum(routed.values())
    destinations = {**routed, "unrouted": unrouted}
    route = replace(later, job="route", rows_in=kept, routed_documents=kept, routed=destinations)
    for manifest in (filtered, route):
        manifest.check()
    return [tagged, filtered, route]


def daily_runs(count: int) -> list[Manifest]:
    """Return the manifests of equal runs, one a day, oldest first."""
    return [manifest for day in range(count) for manifest in usual_run(day)]


def usual_run(day: int) -> list[Manifest]:
    """Return the manifests of the day's run."""
    return run_of(tag(day, {"complaint": 300, "invoice": 50}), {"spam": 80, "too_short": 20}, {"complaints": 400})


def samples(manifests: Sequence[Manifest], text: str | None = "Where is my parcel?") -> list[Sample]:
    """Return a sample document for each outcome."""
    return [
        Sample(outcome, [SampleDocument(f"doc-{number}", text, {"complaint": 0.875})])
        for number, outcome in enumerate(outcomes(manifests, "/lake/mail"))
    ]
