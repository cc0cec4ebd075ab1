"""Supervised training: labelled text in, a checkpoint in the published layout out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint

from gliclass_spark.errors import TrainingError
from gliclass_spark.inference.device import choose_device, native_bfloat16
from gliclass_spark.model import checkpoint
from gliclass_spark.model.modeling import GLiClassModel
from gliclass_spark.model.prompt import PromptBuilder
from gliclass_spark.training.dataset import LabelledSet, QuestionDataset, collate
from gliclass_spark.training.losses import focal_loss, softmax_loss


@dataclass(frozen=True)
class TrainingConfig:
    """How to train. Learning rates are peaks of a linear warm-up and decay over all steps."""

    examples: int = 100_000
    batch_size: int = 32
    encoder_lr: float = 1e-4
    head_lr: float = 5e-4
    weight_decay: float = 0.01
    warmup_share: float = 0.05
    focal_alpha: float = -1.0
    focal_gamma: float = 2.0
    softmax_weight: float = 0.3
    min_labels: int = 4
    max_labels: int = 20
    foreign_share: float = 0.15
    max_text_tokens: int = 128
    save_steps: int = 250
    seed: int = 0


def train(
    model: GLiClassModel,
    tokenizer: PreTrainedTokenizerFast,
    sets: Sequence[LabelledSet],
    config: TrainingConfig,
    folder: Path,
) -> Path:
    """Train `model` in place and save it in `folder`; gives the folder.

    The word embeddings stay as they are. Checkpoints go to `folder/steps`; a training that was
    stopped continues from the newest one. Raises TrainingError when the loss is no longer a number:
    the last checkpoint is then kept.
    """
    model.encoder_model.get_input_embeddings().requires_grad_(False)
    builder = PromptBuilder(tokenizer, prompt_first=model.config.prompt_first, max_length=512)
    questions = QuestionDataset(
        sets,
        builder,
        size=config.examples,
        batch_size=config.batch_size,
        min_labels=config.min_labels,
        max_labels=config.max_labels,
        foreign_share=config.foreign_share,
        max_text_tokens=config.max_text_tokens,
        seed=config.seed,
    )
    device = choose_device(None)
    steps = folder / "steps"
    arguments = TrainingArguments(
        output_dir=str(steps),
        num_train_epochs=1,
        per_device_train_batch_size=config.batch_size,
        learning_rate=config.encoder_lr,
        weight_decay=config.weight_decay,
        warmup_steps=config.warmup_share,
        max_grad_norm=1.0,
        bf16=native_bfloat16(device),
        use_cpu=device.type == "cpu",
        # The dataset has put questions of like length into one batch, in an order of its own.
        train_sampling_strategy="sequential",
        save_steps=config.save_steps,
        save_total_limit=2,
        logging_steps=50,
        logging_nan_inf_filter=False,
        seed=config.seed,
        report_to="none",
        remove_unused_columns=False,
    )
    trainer = Trainer(
        model=_WithLoss(model, config),
        args=arguments,
        train_dataset=questions,
        data_collator=partial(collate, pad_id=tokenizer.pad_token_id),
        optimizers=(_optimizer(model, config), None),
        callbacks=[_StopOnDivergence()],
    )
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(steps)) if steps.is_dir() else None)
    return checkpoint.save(model.eval(), tokenizer, folder)


class _WithLoss(nn.Module):
    """The model and what it is trained for, as transformers' Trainer expects it."""

    def __init__(self, model: GLiClassModel, config: TrainingConfig) -> None:
        super().__init__()
        self.gliclass = model
        self._config = config

    def forward(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> dict[str, Tensor]:
        logits = self.gliclass(input_ids, attention_mask)
        loss = focal_loss(
            logits, labels, focal_alpha=self._config.focal_alpha, focal_gamma=self._config.focal_gamma
        ) + self._config.softmax_weight * softmax_loss(logits, labels)
        return {"loss": loss, "logits": logits}


class _StopOnDivergence(TrainerCallback):
    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        loss = (logs or {}).get("loss", 0.0)
        if loss != loss:
            raise TrainingError(
                f"the loss is not a number at step {state.global_step}; the last checkpoint in {args.output_dir} "
                "is kept: lower the learning rates and start again"
            )


def _optimizer(model: GLiClassModel, config: TrainingConfig) -> torch.optim.Optimizer:
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            rate = config.encoder_lr if name.startswith("encoder_model.") else config.head_lr
            decay = config.weight_decay if weight.dim() > 1 else 0.0
            groups.setdefault((rate, decay), []).append(weight)
    return torch.optim.AdamW(
        [{"params": weights, "lr": rate, "weight_decay": decay} for (rate, decay), weights in groups.items()]
    )
