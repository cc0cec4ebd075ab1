"""Labels that reviewers reject, of those that a model has given: has their share risen since its first reviews?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.runs.delta_reader import StorageOptions
from gliclass_spark.runs.signal_counts import feedback_columns, query_signals

# Of each half. With fewer, the normal approximation is rough.
MIN_DOCUMENTS = 30

_REVIEWED = """
select sum(case when verdict = 'rejected' then 1 else 0 end) as rejected, count(*) as reviewed
from signals
where has_label and label is not null and model_digest = '{digest}' and chosen
    and verdict in ('accepted', 'rejected')
group by doc_id order by min(observed_at), doc_id
"""


@dataclass(frozen=True)
class ReviewedDocument:
    """Verdicts on the labels that a document was given."""

    rejected: int
    reviewed: int


@dataclass(frozen=True)
class RejectionRise:
    """The share of rejected labels in the first and in the second half of the reviewed documents.

    excess: how much the share has risen beyond its interval; below 0 if chance explains the rise.
    """

    documents: int
    before: float
    now: float
    excess: float


def read_reviews(
    pipeline: Pipeline, model_digest: str, storage_options: StorageOptions = None
) -> list[ReviewedDocument]:
    """Return the reviews of a model's labels, by the time of each document's first one."""
    if "model_digest" not in feedback_columns(pipeline, storage_options):
        return []
    rows = query_signals(pipeline, _REVIEWED.format(digest=model_digest), storage_options)
    return [ReviewedDocument(int(row["rejected"]), int(row["reviewed"])) for row in rows]


def rejection_rise(reviews: Sequence[ReviewedDocument], significance: float) -> RejectionRise | None:
    """Return how the share of rejected labels has changed; None for too few documents.

    A score test of two ratios of sums over documents: the standard error is that under an unchanged share, over
    documents, since the labels of one are reviewed together.
    """
    half = len(reviews) // 2
    if half < MIN_DOCUMENTS:
        return None
    rejected, reviewed = (
        np.array([getattr(review, name) for review in reviews], dtype=np.float64) for name in ("rejected", "reviewed")
    )
    residuals = rejected - rejected.sum() / reviewed.sum() * reviewed
    first, second = slice(0, half), slice(half, None)
    variance = sum((residuals[part] ** 2).sum() / reviewed[part].sum() ** 2 for part in (first, second))
    before, now = (float(rejected[part].sum() / reviewed[part].sum()) for part in (first, second))
    margin = NormalDist().inv_cdf(1.0 - significance) * float(np.sqrt(variance))
    return RejectionRise(len(reviews), before, now, now - before - margin)
