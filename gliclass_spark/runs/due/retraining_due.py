"""Whether a pipeline's model should be retrained: reasons that chance alone seldom gives, however often one looks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import takewhile

from gliclass_spark.config.catalog import folder_of
from gliclass_spark.config.model_uri import CHAMPION, REGISTERED
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.errors import TableError
from gliclass_spark.runs.delta_reader import StorageOptions
from gliclass_spark.runs.due.missing_labels import lost_labels, never_given
from gliclass_spark.runs.due.rejected_labels import (
    MIN_DOCUMENTS,
    ReviewedDocument,
    read_reviews,
    rejection_rise,
)
from gliclass_spark.runs.due.score_drift import LOOKS, score_drift
from gliclass_spark.runs.history import recent_manifests
from gliclass_spark.runs.manifest import SUCCEEDED, Manifest

# How often each reason is ever given, over all looks since a promotion, if nothing changes: together in at most 5% of
# the pipelines.
DRIFT, REJECTIONS, LOST_LABELS = 0.03, 0.015, 0.005
_LISTED = 5


@dataclass(frozen=True)
class RetrainingDue:
    """due: whether there is a reason. reasons: one line each. notes: what can't be told yet, and why.

    model_digest: the model that tagged last. since: when its first run started. runs, documents: what it has tagged.
    """

    due: bool
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    model_digest: str | None = None
    since: datetime | None = None
    runs: int = 0
    documents: int = 0


def retraining_due(
    pipeline: Pipeline, recent: Sequence[Manifest] | None = None, storage_options: StorageOptions = None
) -> RetrainingDue | None:
    """Return whether a retraining is due; None for a pipeline that no promotion changes, or that has not run.

    recent: its manifests, in any order; None reads those of now. What can't be read is a note.
    """
    if not (pipeline.model.startswith(REGISTERED) and pipeline.model.endswith(f"@{CHAMPION}")):
        return None
    if folder_of(pipeline.tables) is None:
        return None
    try:
        manifests = recent_manifests(pipeline, storage_options) if recent is None else recent
        runs, earlier = runs_since_promotion(manifests, pipeline.label_set.hash)
        if not runs:
            return None
        reviews = read_reviews(pipeline, str(runs[-1].model_digest), storage_options)
    except TableError as error:
        return RetrainingDue(False, notes=(f"unknown: {error}",))
    return judge_runs(runs, earlier, reviews)


def runs_since_promotion(manifests: Sequence[Manifest], label_set_hash: str) -> tuple[list[Manifest], list[Manifest]]:
    """Return the tag jobs with documents of the model that tagged last, and those of the model before it, oldest first.

    Only jobs with this label set count.
    """
    tags = sorted(
        (
            row
            for row in manifests
            if (row.job, row.status, row.label_set_hash) == ("tag", SUCCEEDED, label_set_hash) and row.scored
        ),
        key=lambda row: -row.sequence,
    )
    groups: list[list[Manifest]] = []
    for _ in range(2):
        start = sum(map(len, groups))
        digest = tags[start].model_digest if start < len(tags) else None
        groups.append(list(takewhile(lambda row, digest=digest: row.model_digest == digest, tags[start:])))  # type: ignore[misc]
    return groups[0][::-1], groups[1][::-1]


def judge_runs(
    runs: Sequence[Manifest], earlier: Sequence[Manifest], reviews: Sequence[ReviewedDocument]
) -> RetrainingDue:
    """Return whether a retraining is due by the runs of the present model, those of the model before, and reviews."""
    notes: list[str] = []
    reasons = [*_drift(runs, notes), *_rejections(reviews, notes), *_labels(runs, earlier, notes)]
    return RetrainingDue(
        bool(reasons),
        tuple(reasons),
        tuple(notes),
        runs[-1].model_digest,
        runs[0].started_at,
        len(runs),
        sum(run.scored for run in runs),
    )


def _drift(runs: Sequence[Manifest], notes: list[str]) -> Iterator[str]:
    drift = score_drift(runs, DRIFT)
    if drift is None:
        notes.append(f"drift can be judged after {LOOKS[0]} runs with documents, there are {len(runs)}")
    elif drift.indices:
        labels = _listed([f"{label} (PSI {index:.2f})" for label, index in drift.indices.items()])
        yield (
            f"the scores of {labels} differ between the first and the last {drift.runs} runs of this model; after "
            f"{drift.since} of its runs they had changed more than runs differ among themselves"
        )


def _rejections(reviews: Sequence[ReviewedDocument], notes: list[str]) -> Iterator[str]:
    rise = rejection_rise(reviews, REJECTIONS)
    if rise is None:
        notes.append(
            f"rejections can be judged with {2 * MIN_DOCUMENTS} documents whose labels were accepted or rejected, "
            f"there are {len(reviews)}"
        )
    elif rise.excess > 0:
        yield (
            f"reviewers reject more of the given labels: {rise.before:.0%} in the first "
            f"{rise.documents - rise.recent:,} reviewed documents, {rise.now:.0%} in the {rise.recent:,} after them, "
            f"which is {rise.excess:.1%} beyond chance"
        )


def _labels(runs: Sequence[Manifest], earlier: Sequence[Manifest], notes: list[str]) -> Iterator[str]:
    lost = lost_labels(runs, earlier, LOST_LABELS)
    others = [label for label in never_given(runs) if label not in lost]
    if lost:
        yield f"no document was given {_listed(lost)} since this model tags, and some were by the model before"
    if others:
        notes.append(f"no document was given {_listed(others)}, which may be rare")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
