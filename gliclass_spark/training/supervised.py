"""Supervised training: labelled text in, a checkpoint in the published layout out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from gliclass_spark.errors import TrainingError
from gliclass_spark.inference.device import choose_device, native_bfloat16
from gliclass_spark.model import checkpoint
from gliclass_spark.model.checkpoint import Model
from gliclass_spark.training.adapters import add_adapters, merge_adapters
from gliclass_spark.training.data.batches import BatchSampler, SamplingConfig, TrainingBatch
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.forward_pass import TrainableModel, trainable, trainable_model
from gliclass_spark.training.losses import focal_loss, hardest, softmax_loss

# The parameters that are single numbers, or one for each head of attention.
_SCALARS = ("logit_scale", "logit_offset", "label_bias")


@dataclass(frozen=True)
class TrainingConfig:
    """How to train. Learning rates are peaks of a linear warm-up and decay over all steps.

    A step learns from `accumulation` questions. `head_lr` is for the projections and the scorer,
    `scalar_lr` for the single numbers behind them: scale, offset, biases of heads. `lora_rank` trains
    low-rank additions to the encoder's linear layers (arXiv 2106.09685) and leaves the rest of it as
    it is; they are merged into its weights at the end. `frozen_layers` of the encoder, the lowest, stay as
    they are. `start_share` in [0, 1]: of the weights as they were before the training, in the average that
    is saved (arXiv 2109.01903); `start_pull` draws them there all the time, by the squared distance (L2-SP,
    arXiv 1802.01483, eq. 3). `hard_share` in (0, 1] of each text's false labels count in the focal loss,
    those that the model takes for the most probable.
    """

    steps: int = 1000
    accumulation: int = 1
    question: SamplingConfig = field(default_factory=SamplingConfig)
    encoder_lr: float = 3e-5
    head_lr: float = 3e-4
    scalar_lr: float = 1e-2
    weight_decay: float = 0.01
    warmup_share: float = 0.05
    focal_alpha: float = -1.0
    focal_gamma: float = 2.0
    label_smoothing: float = 0.0
    focal_weight: float = 1.0
    softmax_weight: float = 1.0
    hard_share: float = 1.0
    lora_rank: int | None = None
    frozen_layers: int = 0
    start_share: float = 0.0
    start_pull: float = 0.0
    max_text_tokens: int = 128
    save_steps: int = 250
    seed: int = 0


def train(
    model: Model,
    tokenizer: PreTrainedTokenizerFast,
    sets: Sequence[LabelledSet],
    config: TrainingConfig,
    folder: Path,
    callbacks: Sequence[TrainerCallback] = (),
) -> Path:
    """Train `model` in place on questions about these sets and save it in `folder`: see `train_on`."""
    questions = BatchSampler(sets, config.question, size=config.steps * config.accumulation, seed=config.seed)
    return train_on(questions, model, tokenizer, config, folder, callbacks)


def train_on(
    questions: Dataset[TrainingBatch],
    model: Model,
    tokenizer: PreTrainedTokenizerFast,
    config: TrainingConfig,
    folder: Path,
    callbacks: Sequence[TrainerCallback] = (),
) -> Path:
    """Train `model` in place and save it in `folder`; gives the folder. `callbacks` may show or log how it goes.

    Questions are asked in their order. The word embeddings stay as they are. Checkpoints go to
    `folder/steps`; a training that was stopped continues from the newest one. Raises TrainingError when
    the loss is no longer a number: the last checkpoint is then kept.
    """
    kept = config.start_share or config.start_pull
    start = {name: weight.detach().clone() for name, weight in model.named_parameters()} if kept else {}
    encoder = trainable(model).encoder_model
    if config.lora_rank is not None:
        add_adapters(encoder, config.lora_rank)
    encoder.get_input_embeddings().requires_grad_(False)
    if config.frozen_layers:
        _layers(encoder)[: config.frozen_layers].requires_grad_(False)
    asked = trainable_model(model, tokenizer, config.max_text_tokens)
    device = choose_device(None)
    steps = folder / "steps"
    arguments = TrainingArguments(
        output_dir=str(steps),
        max_steps=config.steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=config.accumulation,
        learning_rate=config.encoder_lr,
        weight_decay=config.weight_decay,
        warmup_steps=config.warmup_share,
        max_grad_norm=1.0,
        bf16=native_bfloat16(device),
        use_cpu=device.type == "cpu",
        # Every question is decided by its position: to shuffle them would only hide that.
        train_sampling_strategy="sequential",
        save_steps=config.save_steps,
        save_total_limit=2,
        logging_steps=min(50, max(1, config.steps // 20)),
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        seed=config.seed,
        report_to="none",
        remove_unused_columns=False,
    )
    trainer = Trainer(
        model=_WithLoss(model, asked, config, start if config.start_pull else {}),
        args=arguments,
        train_dataset=questions,
        data_collator=lambda questions: asked.inputs(questions[0]),
        optimizers=(_optimizer(model, config), None),
        callbacks=[_StopOnDivergence(), *callbacks],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=_newest_whole_checkpoint(steps))
    if config.lora_rank is not None:
        merge_adapters(encoder)
    _mix_in(model, start, config.start_share)
    if trainer.is_world_process_zero():
        checkpoint.save(model.eval().cpu(), tokenizer, folder)
    trainer.accelerator.wait_for_everyone()
    return folder


def _newest_whole_checkpoint(steps: Path) -> str | None:
    """A kill can leave one that is not: the trainer's state is what it writes last."""
    whole = {int(found.parent.name.rpartition("-")[2]): found.parent for found in steps.glob(f"*/{TRAINER_STATE_NAME}")}
    return str(whole[max(whole)]) if whole else None


def _layers(encoder: nn.Module) -> nn.ModuleList:
    """Every encoder of transformers has one list of layers, from the lowest up."""
    return next(module for module in encoder.modules() if isinstance(module, nn.ModuleList))


class _WithLoss(nn.Module):
    """The model and what it is trained for, as transformers' Trainer expects it. `start`: weights to be drawn to."""

    def __init__(
        self, model: Model, asked: TrainableModel, config: TrainingConfig, start: Mapping[str, Tensor]
    ) -> None:
        super().__init__()
        self.gliclass = model
        self._asked = asked
        self._config = config
        weights = dict(model.named_parameters())
        self._pulled = [(weights[name], before) for name, before in start.items() if weights[name].requires_grad]

    def forward(self, targets: Tensor, weights: Tensor | None = None, **inputs: Tensor) -> dict[str, Tensor]:
        logits = self._asked.logits(inputs).float()
        if self._config.hard_share < 1:
            hard = hardest(logits, targets, self._config.hard_share)
            weights = hard if weights is None else weights * hard
        focal = focal_loss(
            logits,
            targets,
            focal_alpha=self._config.focal_alpha,
            focal_gamma=self._config.focal_gamma,
            label_smoothing=self._config.label_smoothing,
            weights=weights,
        )
        # The focal loss is a mean over labels, and the softmax's a sum: so each label pulls as hard in both.
        loss = self._config.focal_weight * focal * logits.shape[1] + self._config.softmax_weight * softmax_loss(
            logits, targets
        )
        if self._pulled:
            loss = loss + self._config.start_pull / 2 * self._distance()
        return {"loss": loss, "logits": logits}

    def _distance(self) -> Tensor:
        return torch.stack(
            [(weight - before.to(weight.device)).square().sum() for weight, before in self._pulled]
        ).sum()


class _StopOnDivergence(TrainerCallback):
    """Before the weights take it up: so every checkpoint holds numbers, whenever it was written."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        gradients = [weight.grad for weight in kwargs["model"].parameters() if weight.grad is not None]
        if not torch.isfinite(torch.stack([gradient.sum() for gradient in gradients]).sum()):
            raise TrainingError(
                f"the loss, or its gradient, is not a number at step {state.global_step + 1}; the last checkpoint in "
                f"{args.output_dir} is kept: lower the learning rates and start again"
            )


@torch.no_grad()
def _mix_in(model: Model, start: Mapping[str, Tensor], share: float) -> None:
    weights = dict(model.named_parameters())
    for name, before in start.items():
        weights[name].lerp_(before.to(weights[name].device), share)


def _optimizer(model: Model, config: TrainingConfig) -> torch.optim.Optimizer:
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            groups.setdefault((_rate(name, config), config.weight_decay if weight.dim() > 1 else 0.0), []).append(
                weight
            )
    return torch.optim.AdamW(
        [{"params": weights, "lr": rate, "weight_decay": decay} for (rate, decay), weights in groups.items()]
    )


def _rate(name: str, config: TrainingConfig) -> float:
    if name.startswith("encoder_model."):
        return config.encoder_lr
    return config.scalar_lr if name in _SCALARS else config.head_lr
