"""Share of the starting weights in the average that a training saves, chosen by the likelihood of held-out examples."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from transformers import PreTrainedTokenizerFast

from gliclass_spark.model.checkpoint import Model
from gliclass_spark.training.data.batches import TrainingBatch
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.forward_pass import trainable_model

# What the weights are tried with, from the trained ones to those of the start.
SHARES = (0.0, 0.15, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
# Compared with others on sets that were not trained on, `python -m benchmarks.quality.few_shot --choose`.
STANDARD_ERRORS = 2.0
_BATCH_TEXTS = 32
_LOG_TEMPERATURES = (-3.0, 5.0)

ModelT = TypeVar("ModelT", bound=Model)


@dataclass(frozen=True)
class HeldOutLogits:
    """Logits of examples that were held out, (texts, labels), and the position of each one's label, (texts,)."""

    logits: NDArray[np.float64]
    labels: NDArray[np.intp]

    def log_likelihoods(self, temperature: float = 1.0) -> NDArray[np.float64]:
        """Return the log of each label's softmax probability, (texts,)."""
        likelihoods: NDArray[np.float64] = log_softmax(self.logits / temperature, axis=1)[
            np.arange(len(self.labels)), self.labels
        ]
        return likelihoods


def held_out_logits(
    model: ModelT,
    tokenizer: PreTrainedTokenizerFast,
    sets: Sequence[LabelledSet],
    folds: int,
    max_text_tokens: int,
    train_fold: Callable[[ModelT, Sequence[LabelledSet]], object],
    shares: Sequence[float] = SHARES,
) -> list[list[HeldOutLogits]]:
    """Return the logits of the examples with each share of the start, by a training that each was held out of.

    `train_fold` trains the model it gets, in place. An example with several labels counts as one of its first. Empty
    if a fold leaves fewer than two labels to train on.
    """
    by_share: list[list[HeldOutLogits]] = [[] for _ in shares]
    for number in range(folds):
        kept, held_out = zip(*(split_fold(examples, folds, number) for examples in sets), strict=True)
        if any(sum(map(bool, examples.by_label())) < 2 for examples in kept):
            return []
        trained = copy.deepcopy(model)
        train_fold(trained, kept)
        for judged, averaged in zip(by_share, averaged_models(model, trained, shares), strict=True):
            judged.extend(_judged(averaged, tokenizer, examples, max_text_tokens) for examples in held_out if examples)
    return by_share


def clear_gain_share(by_share: Sequence[Sequence[HeldOutLogits]]) -> float:
    """Return the share of SHARES with the highest lower bound of the gain, STANDARD_ERRORS below its mean.

    Of equal ones it is the closest to the start. 1 unless a share's gain exceeds `clear_standard_errors`; 1 also
    without logits.
    """
    if not by_share:
        return 1.0
    gains, errors = held_out_gains(by_share)
    examples = sum(len(judged.labels) for judged in by_share[0])
    if not (gains > clear_standard_errors(examples) * errors).any():
        return 1.0
    bounds = gains - STANDARD_ERRORS * errors
    return SHARES[-1 - int(bounds[::-1].argmax())]


def clear_standard_errors(examples: int) -> float:
    """Return how many standard errors the mean gain of so many held-out examples must exceed.

    STANDARD_ERRORS, and more where few examples also leave the error uncertain: four for sixteen examples.
    """
    return STANDARD_ERRORS + 32 / examples


def split_fold(examples: LabelledSet, folds: int, number: int) -> tuple[LabelledSet, LabelledSet]:
    """Return the examples without one fold, and that fold: every label's examples are dealt out in turn."""
    by_first_label: list[list[int]] = [[] for _ in examples.labels]
    for row, labels in enumerate(examples.targets):
        by_first_label[labels[0]].append(row)
    dealt = [row for rows in by_first_label for row in rows]
    kept = (row for position, row in enumerate(dealt) if position % folds != number)
    return examples.rows(kept), examples.rows(dealt[number::folds])


def averaged_models(start: Model, trained: Model, shares: Sequence[float]) -> Iterator[Model]:
    """Yield one model with the average of both weights, for each share of the start in turn."""
    averaged = copy.deepcopy(trained).eval()
    weights = dict(averaged.named_parameters())
    ends = dict(trained.named_parameters())
    for share in shares:
        with torch.no_grad():
            for name, weight in start.named_parameters():
                weights[name].copy_(ends[name].lerp(weight.to(ends[name].device), share))
        yield averaged


def held_out_gains(
    by_share: Sequence[Sequence[HeldOutLogits]],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the mean gain in log likelihood over the last share and its standard error, (shares,) each, in nats.

    Each share's logits are divided by a temperature of their own: on a few examples a model becomes too sure of itself
    long before it becomes wrong, and which label is the best one does not depend on that.
    """
    likelihoods = np.array([_tempered(judged) for judged in by_share])
    gains = likelihoods - likelihoods[-1]
    return gains.mean(axis=1), gains.std(axis=1, ddof=1) / np.sqrt(gains.shape[1])


def _tempered(judged: Sequence[HeldOutLogits]) -> NDArray[np.float64]:
    def likelihoods(log_temperature: float) -> NDArray[np.float64]:
        return np.concatenate([each.log_likelihoods(float(np.exp(log_temperature))) for each in judged])

    def loss(log_temperature: float) -> float:
        return -float(likelihoods(log_temperature).mean())

    return likelihoods(minimize_scalar(loss, bounds=_LOG_TEMPERATURES, method="bounded").x)


@torch.no_grad()
def _judged(
    model: Model, tokenizer: PreTrainedTokenizerFast, examples: LabelledSet, max_text_tokens: int
) -> HeldOutLogits:
    trainable = trainable_model(model, tokenizer, max_text_tokens)
    logits = []
    for start in range(0, len(examples), _BATCH_TEXTS):
        texts = examples.texts[start : start + _BATCH_TEXTS]
        no_targets = np.zeros((len(texts), len(examples.labels)), dtype=np.float32)
        inputs = trainable.inputs(TrainingBatch(texts, examples.labels, no_targets))
        device = next(model.parameters()).device
        logits.append(trainable.logits({name: tensor.to(device) for name, tensor in inputs.items()}).float().cpu())
    joined = torch.cat(logits).numpy().astype(np.float64)
    first = np.array([labels[0] for labels in examples.targets], dtype=np.intp)
    scored = first < joined.shape[1]  # labels beyond the window have no logits
    return HeldOutLogits(joined[scored], first[scored])
