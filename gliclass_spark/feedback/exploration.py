"""Exploration policy: a share of the documents gets labels sampled from the scores instead of decided by thresholds.

Without exploration, feedback covers only labels that the model was sure of. Labels are sampled near their threshold,
where a judgement says most about the model, and each with a probability of at least PROBABILITY_FLOOR: what the model
does not expect is judged, too, and no judgement has to stand in for thousands. The sampling is a pure function of the
document, its text, the label set and the model: a retry, another order or another partitioning samples the same labels.
A larger share explores all documents of a smaller one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gliclass_spark.labels import LabelSet
from gliclass_spark.labels.thresholds import FloatArray, Mask, keep_top_k, passing_labels, rank_labels

FloatArray64 = NDArray[np.float64]

# An explored label's least probability of being given, and of not being given.
PROBABILITY_FLOOR = 0.02
# Distances to the threshold, in logits, are divided by this: 2 samples more labels near it than the scores themselves.
TEMPERATURE = 2.0
_BYTES_PER_UNIFORM = 8
_MANTISSA_BITS = 53  # of a float64: the precision of a number in [0, 1)


@dataclass(frozen=True)
class ExploredDecisions:
    """The actions of the policy and their propensities.

    chosen: the actions (documents, labels), True if the document gets the label.
    explored: (documents,), True if the document's labels were sampled.
    propensities: (documents, labels), the policy's probability that the document gets the label:
        (1 - share) * [score reaches the threshold] + share * [probability that the label is sampled].
    """

    chosen: Mask
    explored: Mask
    propensities: FloatArray64


def decide(scores: FloatArray, keys: Sequence[bytes], label_set: LabelSet, share: float) -> ExploredDecisions:
    """Choose the labels of each document.

    scores: probabilities (documents, labels). keys: the `sampling_key` of each document. share: the share of explored
    documents, in [0, 1].

    For an explored document each label of a multi-label set is sampled independently with its
    `sampling_probabilities`, and the best `top_k` of the sampled labels are chosen; of a single-label set one label is
    sampled.
    """
    sampling = sampling_probabilities(scores, label_set)
    reached = passing_labels(scores, label_set)
    uniforms = _uniform(keys, 1 + len(label_set))
    explored = uniforms[:, 0] < share
    if label_set.multi_label:
        sampled = keep_top_k(uniforms[:, 1:] < sampling, scores, label_set.top_k)
        probabilities = _top_k_probabilities(sampling, scores, label_set.top_k)
    else:
        sampled = _sample_one(sampling, uniforms[:, 1])
        probabilities = sampling
    chosen = np.where(explored[:, np.newaxis], sampled, reached)
    propensities = (1.0 - share) * reached + share * probabilities
    return ExploredDecisions(chosen, explored, propensities)


def sampling_probabilities(scores: FloatArray, label_set: LabelSet) -> FloatArray64:
    """Return the probabilities that labels of explored documents are sampled, (documents, labels).

    Multi-label: sigmoid((logit(score) - logit(threshold)) / TEMPERATURE), from PROBABILITY_FLOOR to 1 minus it: one
    half at the threshold. Single-label: the softmax at that temperature, mixed with PROBABILITY_FLOOR of the uniform
    distribution.
    """
    exact = scores.astype(np.float64)
    if label_set.multi_label:
        distance = (_logit(exact) - _logit(np.array(label_set.thresholds))) / TEMPERATURE
        return np.clip(1.0 / (1.0 + np.exp(-distance)), PROBABILITY_FLOOR, 1.0 - PROBABILITY_FLOOR)
    tempered = exact ** (1.0 / TEMPERATURE)
    softmax = tempered / tempered.sum(axis=1, keepdims=True)
    mixed: FloatArray64 = (1.0 - PROBABILITY_FLOOR) * softmax + PROBABILITY_FLOOR / scores.shape[1]
    return mixed


def sampling_key(doc_id: bytes, content_hash: str, label_set_hash: str, model_digest: str) -> bytes:
    """Return the key that seeds a document's sampling. Hashes contain no line break, so keys are unique."""
    return "\n".join((label_set_hash, model_digest, content_hash, "")).encode() + doc_id


def _logit(probabilities: FloatArray64) -> FloatArray64:
    """Finite for 0 and 1, too."""
    inside = np.clip(probabilities, 1e-12, 1.0 - 1e-12)
    logits: FloatArray64 = np.log(inside) - np.log1p(-inside)
    return logits


def _top_k_probabilities(sampling: FloatArray64, scores: FloatArray, top_k: int | None) -> FloatArray64:
    """Return (documents, labels): the probability that a label is sampled and fewer than `top_k` better ones are."""
    if top_k is None:
        return sampling
    ranking = rank_labels(scores)
    ranked_sampling = np.take_along_axis(sampling, ranking, axis=1)
    ranked_probabilities = np.empty_like(ranked_sampling)
    # (documents, top_k): the probabilities that 0, 1, ... of the better labels are sampled.
    better = np.zeros((len(scores), min(top_k, scores.shape[1])))
    better[:, 0] = 1.0
    for rank in range(scores.shape[1]):
        ranked_probabilities[:, rank] = ranked_sampling[:, rank] * better.sum(axis=1)
        one_more = better * ranked_sampling[:, rank, np.newaxis]
        better -= one_more
        better[:, 1:] += one_more[:, :-1]
    probabilities = np.empty_like(ranked_probabilities)
    np.put_along_axis(probabilities, ranking, ranked_probabilities, axis=1)
    return probabilities


def _sample_one(sampling: FloatArray64, uniforms: FloatArray64) -> Mask:
    """Return (documents, labels): True for one label of each document, sampled by the probabilities."""
    cumulative = np.cumsum(sampling, axis=1)
    position = (cumulative <= uniforms[:, np.newaxis] * cumulative[:, -1:]).sum(axis=1)
    sampled: Mask = np.arange(sampling.shape[1]) == position[:, np.newaxis]
    return sampled


def _uniform(keys: Sequence[bytes], count: int) -> FloatArray64:
    """Return (keys, count) numbers, uniform in [0, 1), a pure function of each key."""
    digests = b"".join(hashlib.shake_128(key).digest(count * _BYTES_PER_UNIFORM) for key in keys)
    bits = np.frombuffer(digests, dtype="<u8").reshape(len(keys), count)
    return (bits >> np.uint64(64 - _MANTISSA_BITS)).astype(np.float64) * 2.0**-_MANTISSA_BITS
