"""Supervised training: labelled text in, a checkpoint in the published layout out."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast, PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from gliclass_spark import atomic_files
from gliclass_spark.config.training import TrainingConfig
from gliclass_spark.errors import TrainingError
from gliclass_spark.inference.device import choose_device, native_bfloat16
from gliclass_spark.model import checkpoint
from gliclass_spark.model.architectures.label_cached import LabelCachedModel
from gliclass_spark.model.checkpoint import Model
from gliclass_spark.training.adapters import add_adapters, merge_adapters
from gliclass_spark.training.data.batches import BatchSampler, TrainingBatch
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.forward_pass import TrainableModel, require_trainable, trainable_model
from gliclass_spark.training.head import held_out_head_gain, train_head
from gliclass_spark.training.held_out_share import clear_gain_share, held_out_logits
from gliclass_spark.training.losses import classification_loss

logger = logging.getLogger(__name__)

# Of logits, targets and weights, (texts, labels) each; without weights all targets count alike.
Loss = Callable[[Tensor, Tensor, Tensor | None], Tensor]

# Parameters that are single numbers, or one for each attention head.
_SCALARS = ("logit_scale", "logit_offset", "label_bias")


def train(
    model: Model,
    tokenizer: PreTrainedTokenizerFast,
    sets: Sequence[LabelledSet],
    config: TrainingConfig,
    folder: Path,
    callbacks: Sequence[TrainerCallback] = (),
    loss: Loss | None = None,
) -> Path:
    """Train `model` in place on batches of these sets, save it in `folder` and return the folder: see `train_on`.

    With `start_weight_folds`, held-out examples choose the share of the starting weights first, and whether to train
    the head alone instead (`head_fallback`). With an `encoder_lr` of 0, a label-cached model and one set, texts are
    encoded once and the head alone is trained.
    """
    if config.start_weight_examples is not None:
        share = config.start_weight_examples / (sum(map(len, sets)) + config.start_weight_examples)
        config = config.model_copy(update={"start_weight_examples": None, "start_weight_share": share})
    if config.start_weight_folds is not None:
        config = _with_held_out_choice(model, tokenizer, sets, config, folder, loss)
    if config.start_weight_share == 1:  # nothing of a training would count
        return checkpoint.save(model.eval().cpu(), tokenizer, folder)
    if config.encoder_lr == 0 and _has_trainable_head(model, sets, loss):
        train_head(model, tokenizer, sets[0], config)
        return checkpoint.save(model.eval().cpu(), tokenizer, folder)
    size = config.steps * config.gradient_accumulation_steps
    batches = BatchSampler(sets, config.sampling, size=size, seed=config.seed)
    return train_on(batches, model, tokenizer, config, folder, callbacks, loss)


def train_on(
    batches: Dataset[TrainingBatch],
    model: Model,
    tokenizer: PreTrainedTokenizerFast,
    config: TrainingConfig,
    folder: Path,
    callbacks: Sequence[TrainerCallback] = (),
    loss: Loss | None = None,
    steps_folder: Path | None = None,
) -> Path:
    """Train `model` in place, save it in `folder` and return the folder.

    Batches are taken in their order; `config.sampling` is not used. Parameters that don't require gradients, and the
    word embeddings, stay as they are. `loss` replaces `classification_loss`. Checkpoints go to `steps_folder`, by
    default `folder/steps`; a training that was stopped continues from the latest one. Raises TrainingError when the
    loss or its gradient is not finite; the last checkpoint is then kept.
    """
    start_weights: dict[str, Tensor] = {}
    if config.start_weight_share:
        start_weights = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    encoder = require_trainable(model).encoder_model
    if config.lora_rank is not None:
        add_adapters(encoder, config.lora_rank)
    encoder.get_input_embeddings().requires_grad_(False)
    trainable = trainable_model(model, tokenizer, config.max_text_tokens)
    steps_folder = steps_folder or folder / "steps"
    module = _ModelWithLoss(model, trainable, loss or partial(classification_loss, config=config))
    average = None
    if config.ema_decay is not None:
        average = module.weight_average = _moving_average(model, config.ema_decay)
        callbacks = [_UpdateAverage(average, model), *callbacks]
    trainer = Trainer(
        model=module,
        args=_arguments(config, steps_folder),
        train_dataset=batches,
        data_collator=lambda batches: trainable.inputs(batches[0]),
        optimizers=(_optimizer(model, config), None),
        callbacks=[_StopOnDivergence(), *callbacks],
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train(resume_from_checkpoint=_latest_complete_checkpoint(steps_folder))
    if average is not None:
        model.load_state_dict(average.module.state_dict())
    if config.lora_rank is not None:
        merge_adapters(encoder)
    _average_weights(model, start_weights, config.start_weight_share)
    if trainer.is_world_process_zero():
        checkpoint.save(model.eval().cpu(), tokenizer, folder)
    trainer.accelerator.wait_for_everyone()
    return folder


def _has_trainable_head(model: Model, sets: Sequence[LabelledSet], loss: Loss | None) -> TypeGuard[LabelCachedModel]:
    """Return whether the head can be trained alone: of a label-cached model, on one set, by `classification_loss`."""
    return isinstance(model, LabelCachedModel) and len(sets) == 1 and loss is None


def _with_held_out_choice(
    model: Model,
    tokenizer: PreTrainedTokenizerFast,
    sets: Sequence[LabelledSet],
    config: TrainingConfig,
    folder: Path,
    loss: Loss | None,
) -> TrainingConfig:
    """Return the configuration with what held-out examples choose: a share of the starting weights, or the head alone.

    The start stays as it is if neither has a gain.
    """
    decided = {"start_weight_folds": None, "head_fallback": None}
    folds = config.start_weight_folds or 2
    share = _held_out_share(model, tokenizer, sets, config, folds, folder, loss)
    if share < 1:
        logger.info("start_weight_share is %g, by held-out examples", share)
    elif config.head_fallback is not None and _has_trainable_head(model, sets, loss):
        head = config.model_copy(update={**decided, **config.head_fallback.model_dump(), "encoder_lr": 0.0})
        without_average = head.model_copy(update={"start_weight_share": 0.0})
        if held_out_head_gain(model, tokenizer, sets[0], without_average, folds) > 0:
            logger.info("held-out examples show no clear gain of the whole model: the head alone is trained")
            return head
    if share == 1:
        logger.warning("held-out examples show no clear gain: the weights stay as they were; give more examples")
    return config.model_copy(update={**decided, "start_weight_share": share})


def _held_out_share(
    model: Model,
    tokenizer: PreTrainedTokenizerFast,
    sets: Sequence[LabelledSet],
    config: TrainingConfig,
    folds: int,
    folder: Path,
    loss: Loss | None,
) -> float:
    """Return the share of the starting weights that held-out examples choose.

    It is at least that of the configuration, and kept in `folder/steps`: a training that was stopped continues with it.
    """
    kept = folder / "steps" / "start_weight_share.json"
    if kept.exists():
        return float(json.loads(kept.read_text(encoding="utf-8")))
    sampling = config.sampling
    # A fold's training sees each of its examples as often as the training sees each of all.
    fold_texts = max(1, sampling.texts * (folds - 1) // folds)
    of_fold = config.model_copy(
        update={
            "start_weight_folds": None,
            "head_fallback": None,
            "start_weight_share": 0.0,
            "sampling": sampling.model_copy(update={"texts": fold_texts}),
        }
    )

    def train_fold(fold_model: Model, examples: Sequence[LabelledSet]) -> None:
        with TemporaryDirectory() as temporary:
            train(fold_model, tokenizer, examples, of_fold, Path(temporary), loss=loss)

    chosen = clear_gain_share(held_out_logits(model, tokenizer, sets, folds, config.max_text_tokens, train_fold))
    share = max(chosen, config.start_weight_share)
    kept.parent.mkdir(parents=True, exist_ok=True)
    atomic_files.write_text(kept, json.dumps(share))
    return share


def _arguments(config: TrainingConfig, steps_folder: Path) -> TrainingArguments:
    device = choose_device(None)
    return TrainingArguments(
        output_dir=str(steps_folder),
        max_steps=config.steps,
        per_device_train_batch_size=1,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        learning_rate=config.encoder_lr,
        weight_decay=config.weight_decay,
        warmup_steps=config.warmup_share,  # below 1 it is a share of all steps
        max_grad_norm=1.0,
        bf16=native_bfloat16(device),
        use_cpu=device.type == "cpu",
        # A batch is determined by its position: shuffling would only hide that.
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


def _latest_complete_checkpoint(steps_folder: Path) -> str | None:
    """A killed process may leave an incomplete one: the trainer's state is the file that is written last."""
    complete = [state.parent for state in steps_folder.glob(f"*/{TRAINER_STATE_NAME}")]
    return str(max(complete, key=lambda path: int(path.name.rpartition("-")[2]))) if complete else None


class _ModelWithLoss(nn.Module):
    """A model whose forward pass returns the loss, as transformers' Trainer expects.

    weight_average: a moving average of the model's weights; as part of the module it is in its checkpoints.
    """

    weight_average: AveragedModel | None

    def __init__(self, model: Model, trainable: TrainableModel, loss: Loss) -> None:
        super().__init__()
        self.weight_average = None
        self.gliclass = model
        self._trainable = trainable
        self._loss = loss

    def forward(self, targets: Tensor, weights: Tensor | None = None, **inputs: Tensor) -> dict[str, Tensor]:
        logits = self._trainable.logits(inputs).float()
        return {"loss": self._loss(logits, targets, weights), "logits": logits}


class LossCurve(TrainerCallback):
    """Collects loss and gradient norm that the trainer logs.

    on_point: called with the number of updates and these two. points: all of them, with `step`.
    """

    def __init__(self, on_point: Callable[[int, Mapping[str, float]], None]) -> None:
        self._on_point = on_point
        self.points: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            point = {name: float(value) for name, value in logs.items() if name in ("loss", "grad_norm")}
            self.points.append({"step": state.global_step, **point})
            self._on_point(state.global_step, point)


def _moving_average(model: Model, decay: float) -> AveragedModel:
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))
    average.requires_grad_(False)
    return average


class _UpdateAverage(TrainerCallback):
    """Adds the weights after each update to their moving average."""

    def __init__(self, average: AveragedModel, model: Model) -> None:
        self._average = average
        self._model = model

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._average.update_parameters(self._model)


class _StopOnDivergence(TrainerCallback):
    """Checks gradients before each update, so that every checkpoint is finite."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        gradients = [weight.grad for weight in kwargs["model"].parameters() if weight.grad is not None]
        if not torch.isfinite(torch.stack([gradient.sum() for gradient in gradients]).sum()):
            raise TrainingError(
                f"the loss, or its gradient, is not a number at step {state.global_step + 1}; the last checkpoint in "
                f"{args.output_dir} is kept: lower the learning rates and start again"
            )


@torch.no_grad()
def _average_weights(model: Model, start_weights: Mapping[str, Tensor], start_weight_share: float) -> None:
    weights = dict(model.named_parameters())
    for name, start_weight in start_weights.items():
        weights[name].lerp_(start_weight.to(weights[name].device), start_weight_share)


def _optimizer(model: Model, config: TrainingConfig) -> torch.optim.Optimizer:
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decay = config.weight_decay if parameter.dim() > 1 else 0.0
            groups.setdefault((_learning_rate(name, config), decay), []).append(parameter)
    return torch.optim.AdamW(
        [{"params": parameters, "lr": rate, "weight_decay": decay} for (rate, decay), parameters in groups.items()]
    )


def _learning_rate(name: str, config: TrainingConfig) -> float:
    if name.startswith("encoder_model."):
        return config.encoder_lr
    return config.scalar_lr if name in _SCALARS else config.head_lr
