"""Labels that reviewers reject, of those that a model has given: has their share risen since its first reviews?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import pi
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.runs.delta_reader import StorageOptions
from gliclass_spark.runs.signal_counts import feedback_columns, query_signals

# Of each part that is compared. With fewer, the normal approximation is rough.
MIN_DOCUMENTS = 30
# The last half of the documents, and the last quarter.
_RECENT_PARTS = (2, 4)

FloatArray64 = NDArray[np.float64]

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
    """The share of rejected labels in the last `recent` of the reviewed documents, and in those before.

    documents: how many were compared at the last look. excess: how much the share has risen beyond its interval; below
    0 if chance explains the rise.
    """

    documents: int
    recent: int
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
    """Return how the share of rejected labels has changed by the last look; None for too few documents.

    significance: the probability that there is ever a rise, at any look, if the share does not change. Look k is at
    2 * MIN_DOCUMENTS * 1.25^(k - 1) documents, and has 6 / (pi^2 k^2) of it, so that all looks together have all of it
    (alpha spending; Lan and DeMets, Biometrika 70, 1983). The last half of the documents and their last quarter, which
    shows a late rise sooner, have one half of that each; the larger excess is returned. A rise that the last look did
    not show is not shown, whatever earlier looks did.
    """
    look, documents = _last_look(len(reviews))
    if not look:
        return None
    rejected, reviewed = (
        np.array([getattr(review, name) for review in reviews[:documents]], dtype=np.float64)
        for name in ("rejected", "reviewed")
    )
    of_test = significance * 6.0 / (pi * look) ** 2 / len(_RECENT_PARTS)
    sizes = [documents // part for part in _RECENT_PARTS if documents // part >= MIN_DOCUMENTS]
    return max((_rise(rejected, reviewed, size, of_test) for size in sizes), key=lambda rise: rise.excess)


def _rise(rejected: FloatArray64, reviewed: FloatArray64, recent: int, significance: float) -> RejectionRise:
    """Return the rise in the last `recent` documents by a score test of two ratios of sums over documents.

    The standard error is that under an unchanged share, over documents, since the labels of one are reviewed together.
    """
    residuals = rejected - rejected.sum() / reviewed.sum() * reviewed
    parts = (slice(0, -recent), slice(-recent, None))
    variance = sum((residuals[part] ** 2).sum() / reviewed[part].sum() ** 2 for part in parts)
    before, now = (float(rejected[part].sum() / reviewed[part].sum()) for part in parts)
    margin = NormalDist().inv_cdf(1.0 - significance) * float(np.sqrt(variance))
    return RejectionRise(len(rejected), recent, before, now, now - before - margin)


def _last_look(documents: int) -> tuple[int, int]:
    """Return the number of the last look at this many documents, from 1 on, and how many it is at; zeros for none."""
    look, at, following = 0, 0, 2 * MIN_DOCUMENTS
    while following <= documents:
        look, at, following = look + 1, following, following * 5 // 4
    return look, at
