"""The exploration lane: a share of the documents gets its labels drawn from the scores, not by thresholds.

Without it, feedback only ever tells about labels that the model was sure of. A draw is a pure function
of the document, its text, the label set and the model: a retry, another order or another partitioning
draws the same. A larger share keeps the documents of a smaller one in the lane.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gliclass_spark.labels import LabelSet
from gliclass_spark.labels.thresholds import FloatArray, Mask, at_most, best_first, by_thresholds

FloatArray64 = NDArray[np.float64]

_DRAW_BYTES = 8
# The bits that a float64 in [0, 1) can hold.
_BITS = 53


@dataclass(frozen=True)
class ExploredDecisions:
    """chosen (documents, labels): whether the document gets the label. explored (documents,): whether that was drawn.

    propensities (documents, labels): how probable it was that the document would get the label, whether or
    not it was to be in the lane: (1 - share) [given by thresholds] + share * [how probable its draw is].
    """

    chosen: Mask
    explored: Mask
    propensities: FloatArray64


def decide(scores: FloatArray, keys: Sequence[bytes], label_set: LabelSet, share: float) -> ExploredDecisions:
    """Which labels the documents get. scores (documents, labels) are probabilities; `share` is in [0, 1].

    In the lane each label of a multi-label set is drawn by itself, with its score as its probability, and the
    best `top_k` of those drawn are given; of a single-label set one label is drawn from the softmax. A
    document's key, see `key`, decides its draws.
    """
    reached = by_thresholds(scores, label_set)
    draws = _uniform(keys, 1 + len(label_set))
    explored = draws[:, 0] < share
    if label_set.multi_label:
        drawn = at_most(draws[:, 1:] < scores, scores, label_set.top_k)
        odds = _odds(scores, label_set.top_k)
    else:
        drawn = _one_of(scores, draws[:, 1])
        odds = scores.astype(np.float64)
    propensities = (1.0 - share) * reached + share * odds
    return ExploredDecisions(np.where(explored[:, np.newaxis], drawn, reached), explored, propensities)


def key(doc_id: bytes, content_hash: str, label_set_hash: str, model_digest: str) -> bytes:
    """What a document's draws follow from. The hashes have no line break, so no two documents share a key."""
    return "\n".join((label_set_hash, model_digest, content_hash, "")).encode() + doc_id


def _odds(scores: FloatArray, top_k: int | None) -> FloatArray64:
    """(documents, labels): how probable it is that a label is drawn while fewer than `top_k` better ones are."""
    if top_k is None:
        return scores.astype(np.float64)
    ranked = best_first(scores)
    alone = np.take_along_axis(scores, ranked, axis=1).astype(np.float64)
    odds = np.empty_like(alone)
    # (documents, top_k): how probable it is that 0, 1, ... of the better labels are drawn.
    better = np.zeros((len(scores), min(top_k, scores.shape[1])))
    better[:, 0] = 1.0
    for place in range(scores.shape[1]):
        odds[:, place] = alone[:, place] * better.sum(axis=1)
        one_more = better * alone[:, place, np.newaxis]
        better -= one_more
        better[:, 1:] += one_more[:, :-1]
    found = np.empty_like(odds)
    np.put_along_axis(found, ranked, odds, axis=1)
    return found


def _one_of(scores: FloatArray, draws: FloatArray64) -> Mask:
    """(documents, labels): True for one label of each document."""
    reach = np.cumsum(scores, axis=1, dtype=np.float64)
    passed = (reach <= draws[:, np.newaxis] * reach[:, -1:]).sum(axis=1)
    chosen: Mask = np.arange(scores.shape[1]) == passed[:, np.newaxis]
    return chosen


def _uniform(keys: Sequence[bytes], count: int) -> FloatArray64:
    """(keys, count) in [0, 1): as many numbers of each key's own, evenly spread."""
    digests = b"".join(hashlib.shake_128(each).digest(count * _DRAW_BYTES) for each in keys)
    bits = np.frombuffer(digests, dtype="<u8").reshape(len(keys), count)
    return (bits >> np.uint64(64 - _BITS)).astype(np.float64) * 2.0**-_BITS
