"""Proximal policy optimization for multi-label classification.

PPO is arXiv 1707.06347: the clipped objective is its eq. 7, with value loss and entropy bonus its eq. 9. For
multi-label classification it is adapted in arXiv 2508.07662 (section on PPO): one Bernoulli action for each label, a
reward for each text, a KL penalty towards the model before the training.

Actions come from two sources. Where labels are judged, the policy samples actions, and the reward of a text is how
well they match its labels (`rewards`). Where only rewards of decisions are known, the logged decisions are the
actions. They were drawn by another behaviour policy; importance weights correct for that, apart from the clipped
ratio, which stays one between the policy and itself before the step (arXiv 2110.00641). A reward of all labels of a
text together is, like that of a sampled rollout, the reward of each of its actions; each has a ratio of its own.

The value head predicts the rewards q of both actions. The baseline of an advantage is the state's value under the
policy, pi q(1) + (1 - pi) q(0), and not q of the action that was taken: where only given labels earn rewards, that
would leave no advantage (`rollouts.baseline`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerFast

from gliclass_spark.config.retraining import Ppo
from gliclass_spark.errors import TrainingError
from gliclass_spark.inference.device import choose_device, native_bfloat16
from gliclass_spark.labels import DEFAULT_THRESHOLD, LabelSet
from gliclass_spark.model import checkpoint
from gliclass_spark.model.checkpoint import Model
from gliclass_spark.training.data.batches import TrainingBatch
from gliclass_spark.training.data.feedback_batches import LoggedBatch
from gliclass_spark.training.forward_pass import require_trainable
from gliclass_spark.training.importance_weights import effective_sample_size
from gliclass_spark.training.reinforcement.policy import (
    Policy,
    action_values,
    entropy,
    kl_divergence,
    log_prob,
    sample_actions,
    value_features,
)
from gliclass_spark.training.reinforcement.rollouts import (
    Rollout,
    baseline,
    logged_rollout,
    sampled_rollout,
    sharing_of,
)
from gliclass_spark.training.training_state import TrainingState

Metrics = Mapping[str, float]
OnStep = Callable[[int, Metrics], None]


@dataclass(frozen=True)
class Sources:
    """Datasets of batches with judged labels, and of logged decisions; at least one of them is there."""

    judged: Dataset[TrainingBatch] | None
    logged: Dataset[LoggedBatch] | None

    def batch(self, position: int, logged_share: float, seed: int) -> TrainingBatch:
        """Return a batch, of logged decisions with the probability `logged_share`; the same for the same position."""
        is_logged = np.random.default_rng((seed, position, 4)).random() < logged_share
        if self.judged is None or (is_logged and self.logged is not None):
            assert self.logged is not None  # noqa: S101
            return self.logged[position]
        return self.judged[position]


def train(
    model: Model,
    tokenizer: PreTrainedTokenizerFast,
    sources: Sources,
    config: Ppo,
    folder: Path,
    *,
    seed: int = 0,
    label_set: LabelSet | None = None,
    on_step: OnStep = lambda step, metrics: None,
    steps_folder: Path | None = None,
) -> Path:
    """Train `model` in place, save it in `folder` and return the folder.

    The model before the training is the frozen reference policy. `label_set` has temperatures, biases and thresholds
    of its labels; those of others are 1, 0 and 0.5. `on_step` is called with the number of finished steps and the
    metrics of the last one. Checkpoints go to `steps_folder`, by default `folder/steps`; a training that was stopped
    continues from the latest one, to the same weights. Under torchrun each process trains on batches of its own, and
    gradients are averaged. Raises TrainingError when the loss or its gradient is not finite; the last checkpoint is
    then kept.
    """
    if sources.judged is None and sources.logged is None:
        raise TrainingError("there is neither a judged label nor a rewarded decision to train on; bring feedback")
    # Some parameters, as an encoder's pooler, take no part in the logits.
    find_unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    device = choose_device(None)
    precision = "bf16" if native_bfloat16(device) else "no"
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision=precision, kwargs_handlers=[find_unused])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        # Without dropout: with it, an unchanged policy would not have a ratio of 1.
        policy = Policy(model.eval(), tokenizer, config.max_text_tokens)
    ref_policy = copy.deepcopy(policy).to(accelerator.device).requires_grad_(False)
    require_trainable(model).encoder_model.get_input_embeddings().requires_grad_(False)
    optimizer = _optimizer(policy, config)
    state = TrainingState(steps_folder or folder / "steps")
    first_step = state.resume(policy, optimizer)
    parallel_policy, optimizer = accelerator.prepare(policy, optimizer)

    for step in range(first_step, config.steps):
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * (1 - step / config.steps)
        position = step * accelerator.num_processes + accelerator.process_index
        batch = sources.batch(position, config.logged_share, seed)
        inputs = {name: tensor.to(accelerator.device) for name, tensor in policy.trainable.inputs(batch).items()}
        targets, weights = inputs.pop("targets"), inputs.pop("weights", None)
        labels = batch.labels[: targets.shape[1]]
        temperatures, biases, thresholds = _label_settings(label_set, labels, accelerator.device)
        with torch.no_grad(), accelerator.autocast():
            ref_logits, _ = ref_policy(inputs, temperatures, biases)
        sharing = sharing_of(batch, ref_logits) if isinstance(batch, LoggedBatch) else None
        features = value_features(ref_logits, sharing)

        rollout = None
        for _ in range(config.epochs):
            logits, q_values = parallel_policy(inputs, temperatures, biases, features)
            if rollout is None:
                # From the forward pass of the first epoch itself: its ratio is exactly 1.
                old_logits = logits.detach()
                if isinstance(batch, LoggedBatch):
                    rollout = logged_rollout(old_logits, batch, config)
                elif config.actions == "sample":
                    actions = sample_actions(old_logits, (seed, position))
                    rollout = sampled_rollout(old_logits, actions, targets, config, weights)
                else:
                    actions = (torch.sigmoid(old_logits) >= thresholds).float()
                    rollout = sampled_rollout(old_logits, actions, targets, config, weights)
                advantages = rollout.rewards - baseline(q_values, old_logits, rollout, config.not_given)

            values = action_values(q_values, rollout.actions)
            loss, metrics = ppo_loss(logits, values, rollout, advantages, ref_logits, config)

            optimizer.zero_grad()
            accelerator.backward(loss)
            grad_norm = accelerator.clip_grad_norm_(parallel_policy.parameters(), 1.0)
            # Before the update, so that every checkpoint is finite.
            if not torch.isfinite(loss) or not torch.isfinite(grad_norm):
                raise TrainingError(
                    "the loss, or its gradient, is not a number; the last checkpoint is kept: lower the learning rates "
                    "and start again"
                )
            optimizer.step()

        if accelerator.is_main_process:
            on_step(step + 1, metrics)
            if (step + 1) % config.save_steps == 0:
                state.save(step + 1, policy, optimizer)

    if accelerator.is_main_process:
        checkpoint.save(model.cpu(), tokenizer, folder)
    accelerator.wait_for_everyone()
    return folder


def ppo_loss(
    logits: Tensor, values: Tensor, rollout: Rollout, advantages: Tensor, ref_logits: Tensor, config: Ppo
) -> tuple[Tensor, Metrics]:
    """Return the loss of arXiv 1707.06347, eq. 9, with a KL penalty towards the reference policy, and its metrics.

    logits, values, advantages, ref_logits: (texts, labels); values: q(a) of the actions. Policy and value loss are
    means over the actions with a reward, entropy and KL divergence over all. A term whose weight is 0 is left out.
    """
    logratio = log_prob(logits, rollout.actions, config.label_smoothing) - rollout.logprobs
    ratio = logratio.exp()
    clipped_ratio = ratio.clamp(1 - config.clip_ratio, 1 + config.clip_ratio)

    weights = focal_weights(rollout.actions, rollout.logprobs, config)
    pg_objective = torch.minimum(ratio * advantages, clipped_ratio * advantages) * rollout.importance_weights * weights
    pg_loss = -_masked_mean(pg_objective, rollout.mask)
    loss, terms = pg_loss, {"policy_loss": pg_loss}

    if config.value_weight:
        v_loss = _masked_mean((values - rollout.rewards) ** 2, rollout.mask)
        loss, terms["value_loss"] = loss + config.value_weight * v_loss, v_loss

    if config.kl_weight:
        kl = kl_divergence(logits, ref_logits).mean()
        loss, terms["kl"] = loss + config.kl_weight * kl, kl

    if config.entropy_weight:
        entropy_loss = entropy(logits).mean()
        loss, terms["entropy"] = loss - config.entropy_weight * entropy_loss, entropy_loss

    clipfrac = _masked_mean((ratio != clipped_ratio).float(), rollout.mask)
    losses = {name: float(term.detach()) for name, term in terms.items()}
    return loss, {**_reward_metrics(rollout), "clipfrac": float(clipfrac), **losses}


def focal_weights(actions: Tensor, logprobs: Tensor, config: Ppo) -> Tensor:
    """Return alpha_t (1 - p_t)^gamma of each action, p_t its probability under the policy before the step.

    gamma > 0 lowers the weight of actions that the policy is certain of; alpha weighs positive actions, 1 - alpha
    negative ones (arXiv 1708.02002, eq. 5).
    """
    weights = (1 - torch.exp(logprobs)).clamp(min=0) ** config.focal_gamma
    if config.focal_alpha is not None:
        weights = weights * (config.focal_alpha * actions + (1 - config.focal_alpha) * (1 - actions))
    return weights


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """0 for an empty mask: the labels with a reward may not all fit into the window beside the text."""
    return values[mask].sum() / mask.sum().clamp(min=1)


def _reward_metrics(rollout: Rollout) -> Metrics:
    if not rollout.mask.any():
        return {}
    reward = float(rollout.rewards[rollout.mask].mean())
    if not rollout.logged:
        return {"reward": reward}
    weights = rollout.importance_weights[rollout.mask].cpu().numpy()
    return {"logged_reward": reward, "effective_sample_size": effective_sample_size(weights)}


def _label_settings(
    label_set: LabelSet | None, labels: Sequence[str], device: torch.device
) -> tuple[Tensor, Tensor, Tensor]:
    """Temperatures, biases and thresholds, (labels,) each."""
    by_label: dict[str, tuple[float, float, float]] = {}
    if label_set is not None:
        settings = zip(label_set.temperatures, label_set.biases, label_set.thresholds, strict=True)
        by_label = dict(zip(label_set.texts, settings, strict=True))
    table = torch.tensor([by_label.get(label, (1.0, 0.0, DEFAULT_THRESHOLD)) for label in labels]).to(device)
    return table[:, 0], table[:, 1], table[:, 2]


def _optimizer(policy: Policy, config: Ppo) -> torch.optim.Optimizer:
    rates = {"model.encoder_model.": config.encoder_lr, "model.": config.head_lr, "value.": config.value_lr}
    groups: dict[float, list[nn.Parameter]] = {}
    for name, parameter in policy.named_parameters():
        if parameter.requires_grad:
            rate = next(rate for prefix, rate in rates.items() if name.startswith(prefix))
            groups.setdefault(rate, []).append(parameter)
    return torch.optim.AdamW(
        [
            {"params": parameters, "lr": rate, "initial_lr": rate, "weight_decay": 0.0}
            for rate, parameters in groups.items()
        ]
    )
