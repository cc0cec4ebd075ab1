"""Made-up nights of a pipeline: manifests whose counts add up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from gliclass_spark.labels import LabelSet
from gliclass_spark.report import Sample, SampleDocument
from gliclass_spark.runs import outcomes
from gliclass_spark.runs.manifest import HISTOGRAM_BINS, Manifest, VersionRange

LABELS = LabelSet.of("complaint", "invoice", name="mail")
LOW, HIGH = 2, 17


def tag(
    night: int,
    labels: dict[str, int],
    documents: int = 1000,
    errors: dict[str, int] | None = None,
    label_set: LabelSet = LABELS,
) -> Manifest:
    """A night that tagged documents, so many of each label; those with it score high, the others low."""
    started = datetime(2026, 11, 1, 2, 0, tzinfo=UTC) + timedelta(days=night)
    scored = documents - sum((errors or {}).values())
    return Manifest(
        run_id=f"night-{night}",
        pipeline="support_mail",
        job="tag",
        status="succeeded",
        sequence=night,
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


def decided(tagged: Manifest, rejected: dict[str, int], routed: dict[str, int]) -> list[Manifest]:
    """The tag job, and the filter and route jobs behind it; what is neither rejected nor failed is kept."""
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


def nights(count: int) -> list[Manifest]:
    """Ordinary nights, oldest first."""
    return [manifest for night in range(count) for manifest in ordinary(night)]


def ordinary(night: int) -> list[Manifest]:
    return decided(tag(night, {"complaint": 300, "invoice": 50}), {"spam": 80, "too_short": 20}, {"complaints": 400})


def samples(manifests: Sequence[Manifest], text: str | None = "Where is my parcel?") -> list[Sample]:
    """One document for each outcome."""
    return [
        Sample(outcome, [SampleDocument(f"doc-{number}", text, {"complaint": 0.875})])
        for number, outcome in enumerate(outcomes(manifests, "/lake/mail"))
    ]
