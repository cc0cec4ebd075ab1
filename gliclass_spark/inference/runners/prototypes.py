"""Prototypes: label vectors that move towards the texts of a label set's examples."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from gliclass_spark.model.architectures.label_cached import LabelStates
from gliclass_spark.model.prompts.label_cached_tokenizer import MIN_EXAMPLES

logger = logging.getLogger(__name__)

_WEIGHTS = [step / 10 for step in range(11)]


def clear_standard_errors(examples: int) -> float:
    """Return how many standard errors the mean gain of so many held-out examples must exceed.

    Two, and more where few examples also leave the error uncertain. With less, more label sets lose
    (benchmarks/quality/label_set_examples.py).
    """
    return 2 + 16 / examples


def with_prototypes(
    labels: LabelStates,
    texts: Tensor,
    has_label: Tensor,
    logit_scale: float,
    *,
    standard_errors: Callable[[int], float] = clear_standard_errors,
) -> LabelStates:
    """Return label states whose vectors are means of label and prototype, weighted by what the examples show.

    A label's prototype is the mean vector of its examples (prototypical networks, arXiv 1703.05175), and its vector
    becomes (1 - w) label + w prototype; each at length 1. A label with fewer than MIN_EXAMPLES moves as the others do
    in the mean. The weight w is one for all labels: of 0, 0.1, ..., 1 the one with which the examples are likeliest,
    each scored without its own part in the prototypes, among those whose mean gain over 0 is clear. Two texts are more
    alike than a text and a label: one offset for all labels leaves the examples' mean logit for labels that they lack
    as it was.

    labels: the vectors before, (labels, hidden). texts: vectors of the examples, (examples, hidden), of length 1.
    has_label: the examples' labels, (examples, labels), bool; two labels at least have MIN_EXAMPLES.
    standard_errors: of the mean gain, which a clear one exceeds, by the number of examples.
    """
    prototypes = _Prototypes.of(labels.vectors.double().cpu(), texts.double().cpu(), has_label.cpu())
    gains = torch.stack([prototypes.log_likelihoods(weight, logit_scale) for weight in _WEIGHTS])
    weight = _WEIGHTS[_best(gains - gains[0], standard_errors)]
    examples, label_count = has_label.shape
    if weight == 0:
        logger.warning(
            "%d examples of %d labels change no score: held out in turn, they show no clear gain; more may",
            examples,
            label_count,
        )
        return labels
    logger.info("%d examples of %d labels have a weight of %.1f", examples, label_count, weight)
    vectors = prototypes.vectors(weight).to(labels.vectors)
    offset = prototypes.offset(weight) * logit_scale
    return LabelStates(vectors, labels.keys_values, labels.logit_offsets + offset)


@dataclass(frozen=True)
class _Prototypes:
    """Labels, the prototypes of their examples, and these prototypes without one example. Vectors of length 1.

    labels, prototypes: (labels, hidden). texts: (examples, hidden). has_label: (examples, labels).
    examples, own_labels: pairs of an example and a label of it, (pairs,) each. held_out: (pairs, hidden), the label's
    prototype without the example.
    """

    labels: Tensor
    prototypes: Tensor
    texts: Tensor
    has_label: Tensor
    examples: Tensor
    own_labels: Tensor
    held_out: Tensor

    @classmethod
    def of(cls, labels: Tensor, texts: Tensor, has_label: Tensor) -> _Prototypes:
        sums, known = has_label.double().T @ texts, has_label.sum(dim=0) >= MIN_EXAMPLES
        prototypes = normalize(sums, dim=-1)
        mean_shift = (prototypes - labels)[known].mean(dim=0)
        prototypes = torch.where(known[:, None], prototypes, normalize(labels + mean_shift, dim=-1))
        examples, own_labels = (has_label & known).nonzero().T
        held_out = normalize(sums[own_labels] - texts[examples], dim=-1)
        return cls(labels, prototypes, texts, has_label, examples, own_labels, held_out)

    def vectors(self, weight: float) -> Tensor:
        return normalize((1 - weight) * self.labels + weight * self.prototypes, dim=-1)

    def log_likelihoods(self, weight: float, logit_scale: float) -> Tensor:
        """Return the mean over an example's labels, each held out and against those that it lacks, (examples,).

        Without the examples that have no pair.
        """
        own_vectors = normalize((1 - weight) * self.labels[self.own_labels] + weight * self.held_out, dim=-1)
        own = (self.texts[self.examples] * own_vectors).sum(dim=-1) * logit_scale
        logits = self.texts @ self.vectors(weight).T * logit_scale
        lacked = logits.masked_fill(self.has_label, -torch.inf).logsumexp(dim=-1)[self.examples]
        sums = torch.zeros(len(self.texts), dtype=own.dtype)
        sums.index_add_(0, self.examples, own - torch.logaddexp(own, lacked))
        counts = self.examples.bincount(minlength=len(self.texts))
        return (sums / counts)[counts > 0]

    def offset(self, weight: float) -> float:
        """Return the mean cosine of an example and a label that it lacks, at weight 0 minus at this one."""
        change = self.texts @ (self.labels - self.vectors(weight)).T
        return float(change[~self.has_label].mean())


def _best(gains: Tensor, standard_errors: Callable[[int], float]) -> int:
    """Return the row of `gains` (weights, examples) whose mean is clear and the highest; the first has none."""
    count = gains.shape[-1]
    mean, error = gains.mean(dim=-1), gains.std(dim=-1) / count**0.5
    return int(mean.where(mean > standard_errors(count) * error, torch.zeros_like(mean)).argmax())
