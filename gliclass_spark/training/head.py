"""Training of the head alone: projections and scale of a label-cached model, over an encoder that stays as it is.

Texts and labels are encoded once, so a training takes seconds where one of the encoder takes minutes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from gliclass_spark.config.training import TrainingConfig
from gliclass_spark.errors import TrainingError
from gliclass_spark.model.architectures.label_cached import LabelCachedModel
from gliclass_spark.training.data.batches import TrainingBatch
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.forward_pass import trainable_model
from gliclass_spark.training.held_out_share import held_out_gains, held_out_logits
from gliclass_spark.training.losses import classification_loss

_BATCH_TEXTS = 32


def train_head(
    model: LabelCachedModel, tokenizer: PreTrainedTokenizerFast, examples: LabelledSet, config: TrainingConfig
) -> None:
    """Train the projections, scale and offset of the model in place, each step on all examples and all labels.

    The loss is that of supervised training, a mean over n examples, plus `start_weight_penalty` / n^2 times the squared
    distance of the projections from the start: the more examples, the less it counts. Of `config` it further takes
    `steps`, `head_lr`, `scalar_lr`, `warmup_share`, `start_weight_share` and `max_text_tokens`. Raises TrainingError
    when the loss is not finite; the model is then as before.
    """
    texts, labels = _mean_states(model, tokenizer, examples, config.max_text_tokens)
    targets = torch.zeros(len(examples), len(examples.labels))
    for row, row_labels in enumerate(examples.targets):
        targets[row, list(row_labels)] = 1
    projectors = [*model.text_projector.parameters(), *model.label_projector.parameters()]
    scalars = [model.logit_scale, model.logit_offset]
    start = [weight.detach().clone() for weight in (*projectors, *scalars)]
    optimizer = torch.optim.AdamW(
        [
            {"params": projectors, "lr": config.head_lr},
            {"params": scalars, "lr": config.scalar_lr},
        ],
        weight_decay=0.0,  # towards zero; the penalty is towards the start
    )
    warmup_steps = round(config.warmup_share * config.steps)

    def rate(step: int) -> float:
        rising = step / max(warmup_steps, 1)
        return min(rising, 1.0) if step < warmup_steps else (config.steps - step) / max(config.steps - warmup_steps, 1)

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    loss = torch.zeros(())
    for _ in range(config.steps):
        text_vectors = _unit_vectors(texts, model.text_projector)
        label_vectors = _unit_vectors(labels, model.label_projector)
        logits = text_vectors @ label_vectors.T * model.logit_scale + model.logit_offset
        distance = sum(((weight - before) ** 2).sum() for weight, before in zip(projectors, start, strict=False))
        loss = classification_loss(logits, targets, None, config)
        loss = loss + config.start_weight_penalty / len(examples) ** 2 * distance
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_([*projectors, *scalars], 1.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        share = config.start_weight_share if torch.isfinite(loss) else 1.0
        for weight, before in zip((*projectors, *scalars), start, strict=True):
            weight.copy_(before if share == 1 else weight.lerp(before, share))
    if not torch.isfinite(loss):
        raise TrainingError("the loss is not a number; the model is as before: lower the learning rates, start again")


def held_out_head_gain(
    model: LabelCachedModel,
    tokenizer: PreTrainedTokenizerFast,
    examples: LabelledSet,
    config: TrainingConfig,
    folds: int,
) -> float:
    """Return the mean gain in log likelihood of the examples, in nats, by trainings that each was held out of.

    The model stays as it is. 0 if a fold leaves fewer than two labels to train on.
    """

    def train_fold(fold_model: LabelCachedModel, kept: Sequence[LabelledSet]) -> None:
        train_head(fold_model, tokenizer, kept[0], config)

    trained_and_start = held_out_logits(
        model, tokenizer, [examples], folds, config.max_text_tokens, train_fold, shares=(0.0, 1.0)
    )
    return float(held_out_gains(trained_and_start)[0][0]) if trained_and_start else 0.0


@torch.no_grad()
def _mean_states(
    model: LabelCachedModel, tokenizer: PreTrainedTokenizerFast, examples: LabelledSet, max_text_tokens: int
) -> tuple[Tensor, Tensor]:
    """Return the mean token states of texts and labels, (rows, hidden) each: the inputs of their projections."""
    trainable = trainable_model(model.eval(), tokenizer, max_text_tokens)
    by_length = np.argsort([len(text) for text in examples.texts], kind="stable")
    text_means: list[Tensor] = []
    label_means: list[Tensor] = []
    with _inputs_of(model.text_projector, text_means), _inputs_of(model.label_projector, label_means):
        for start in range(0, len(by_length), _BATCH_TEXTS):
            batch = examples.rows(by_length[start : start + _BATCH_TEXTS].tolist())
            no_targets = np.zeros((len(batch), len(batch.labels)), dtype=np.float32)
            trainable.logits(trainable.inputs(TrainingBatch(batch.texts, batch.labels, no_targets)))
    texts = torch.empty(len(examples), text_means[0].shape[1])
    texts[torch.from_numpy(by_length)] = torch.cat(text_means).float()
    return texts, label_means[0].float()


@contextmanager
def _inputs_of(module: nn.Module, inputs: list[Tensor]) -> Iterator[None]:
    """Append what the module is called with to `inputs`."""
    hook = module.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    try:
        yield
    finally:
        hook.remove()


def _unit_vectors(means: Tensor, projector: nn.Module) -> Tensor:
    """Return vectors of length 1, as the model computes them of the mean states."""
    return functional.normalize(means + projector(means), dim=-1)
