"""Proximal policy optimisation for multi-label classification (arXiv 2508.07662; PPO: arXiv 1707.06347).

The policy gives each label to a text, or does not, by a Bernoulli draw of its own. A step reads top to
bottom in `_Learner.step` and `ppo_loss`: draw actions -> reward -> advantage -> ratio -> clipped loss -> update.

Actions come from one of two sources. Where labels are known, the policy draws its own actions, and each
text's reward is how well they hit (`rewards`). Where only the outcome of decisions is known, the actions
are those that were logged, and a reward is about one label. Then the behaviour policy is another one than
the policy that a step begins with; its propensities correct for that by importance weights, apart from
the clipped ratio, which stays one between the policy and itself before the step (arXiv 2110.00641).
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
from torch.nn import functional
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
from gliclass_spark.training.forward_pass import TrainableModel, trainable, trainable_model
from gliclass_spark.training.rewards import text_rewards
from gliclass_spark.training.training_state import TrainingState

Metrics = Mapping[str, float]
OnStep = Callable[[int, Metrics], None]
# A logged decision that the policy can't make is none that it could have been taught by.
_LEAST_PROPENSITY = 1e-4
_FEATURES = 4


@dataclass(frozen=True)
class Sources:
    """What a policy learns from; at least one of the two is there."""

    known: Dataset[TrainingBatch] | None
    logged: Dataset[LoggedBatch] | None


@dataclass(frozen=True)
class Experience:
    """Actions and what came of them, (texts, labels) each. They stay as they are in every epoch of a step.

    log_probs: of the actions, under the policy that the step begins with. weights: importance weights, 1
    where that policy drew the actions. known: whether there is an action with a reward. logged: whether
    they are decisions that were made, and none that the policy drew.
    """

    actions: Tensor
    log_probs: Tensor
    rewards: Tensor
    weights: Tensor
    known: Tensor
    logged: bool


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
) -> Path:
    """Train `model` in place and save it in `folder`; gives the folder.

    The model as it comes is the frozen reference policy. `label_set` states temperatures and thresholds of
    its labels; those of others are 1 and 0.5. Checkpoints go to `folder/steps`; a training that was
    stopped continues from the newest one, to the same weights. Under torchrun every process learns from
    questions of its own, and they share the gradients. Raises TrainingError when the loss is no longer a
    number: the last checkpoint is then kept.
    """
    if sources.known is None and sources.logged is None:
        raise TrainingError("there is neither a known label nor a rewarded decision to learn from; bring feedback")
    # An encoder's pooler, say, takes no part in the logits.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    device = choose_device(None)
    precision = "bf16" if native_bfloat16(device) else "no"
    accelerator = Accelerator(cpu=device.type == "cpu", mixed_precision=precision, kwargs_handlers=[unused])
    # In evaluation mode all along: with dropout, a policy that has not changed would not have a ratio of 1.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        policy = _Policy(model.eval(), tokenizer, config.max_text_tokens)
    reference = copy.deepcopy(policy).to(accelerator.device).requires_grad_(False)
    trainable(model).encoder_model.get_input_embeddings().requires_grad_(False)
    optimizer = _optimizer(policy, config)
    state = TrainingState(folder / "steps")
    done = state.resume(policy, optimizer)
    prepared, optimizer = accelerator.prepare(policy, optimizer)
    learner = _Learner(prepared, reference, optimizer, accelerator, config, label_set)
    for step in range(done, config.steps):
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * (1 - step / config.steps)
        place = step * accelerator.num_processes + accelerator.process_index
        metrics = learner.step(_question(sources, config.logged_share, place, seed), (seed, place))
        if accelerator.is_main_process:
            on_step(step + 1, metrics)
            if (step + 1) % config.save_steps == 0:
                state.save(step + 1, policy, optimizer)
    if accelerator.is_main_process:
        checkpoint.save(model.cpu(), tokenizer, folder)
    accelerator.wait_for_everyone()
    return folder


@dataclass
class _Learner:
    policy: nn.Module
    reference: nn.Module
    optimizer: torch.optim.Optimizer
    accelerator: Accelerator
    config: Ppo
    label_set: LabelSet | None

    def step(self, question: TrainingBatch, seed: tuple[int, int]) -> Metrics:
        inputs = {name: value.to(self.accelerator.device) for name, value in self._asking().inputs(question).items()}
        inputs.pop("weights", None)
        targets = inputs.pop("targets")
        heat, cuts = (row.to(self.accelerator.device) for row in self._settings(question.labels[: targets.shape[1]]))
        with torch.no_grad(), self.accelerator.autocast():
            reference = self.reference(inputs, heat)[0]
        features = value_features(reference, isinstance(question, LoggedBatch))
        experience = None
        for _ in range(self.config.epochs):
            logits, values = self.policy(inputs, heat, features)
            if experience is None:  # of the first epoch's own pass: so the ratio is exactly 1 there
                experience = self._experience(logits.detach(), question, targets, cuts, seed)
                advantages = experience.rewards - values.detach()
            loss, metrics = ppo_loss(logits, values, experience, advantages, reference, self.config)
            self.optimizer.zero_grad()
            self.accelerator.backward(loss)
            norm = self.accelerator.clip_grad_norm_(self.policy.parameters(), 1.0)
            # Before the weights take it up: so every checkpoint holds numbers.
            if not torch.isfinite(loss) or not torch.isfinite(norm):
                raise TrainingError(
                    "the loss, or its gradient, is not a number; the last checkpoint is kept: lower the learning rates "
                    "and start again"
                )
            self.optimizer.step()
        return metrics

    def _experience(
        self, logits: Tensor, question: TrainingBatch, targets: Tensor, thresholds: Tensor, seed: tuple[int, int]
    ) -> Experience:
        if isinstance(question, LoggedBatch):
            return logged_experience(logits, question, self.config)
        return drawn_experience(logits, self._actions(logits, thresholds, seed), targets, self.config)

    def _asking(self) -> TrainableModel:
        policy: _Policy = self.accelerator.unwrap_model(self.policy)
        return policy.asked

    def _settings(self, labels: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Temperatures and thresholds, (labels,) each."""
        known = {}
        if self.label_set is not None:
            settings = zip(self.label_set.temperatures, self.label_set.thresholds, strict=True)
            known = dict(zip(self.label_set.texts, settings, strict=True))
        found = torch.tensor([known.get(label, (1.0, DEFAULT_THRESHOLD)) for label in labels])
        return found[:, 0], found[:, 1]

    def _actions(self, logits: Tensor, thresholds: Tensor, seed: tuple[int, int]) -> Tensor:
        if self.config.actions == "threshold":
            return (torch.sigmoid(logits) >= thresholds).float()
        return sample_actions(logits, seed)


def sample_actions(logits: Tensor, seed: tuple[int, int]) -> Tensor:
    """(texts, labels), 1 or 0: each drawn from its own probability; the same ones for the same seed and step."""
    drawn = np.random.default_rng((*seed, 3)).random(tuple(logits.shape), dtype=np.float32)
    return (torch.from_numpy(drawn).to(logits.device) < torch.sigmoid(logits)).float()


def log_prob(logits: Tensor, actions: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """log pi(a) of each Bernoulli action; smoothed by s: (1 - s / 2) log pi(a) + s / 2 log pi(1 - a)."""
    smoothed = actions * (1 - label_smoothing) + label_smoothing / 2
    return -functional.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")


def entropy(logits: Tensor) -> Tensor:
    """Of each Bernoulli distribution, in nats."""
    probabilities = torch.sigmoid(logits)
    return functional.binary_cross_entropy_with_logits(logits, probabilities, reduction="none")


def kl_divergence(logits: Tensor, reference: Tensor) -> Tensor:
    """KL(pi || pi_ref) of each label's two Bernoulli distributions, over both of its outcomes."""
    probabilities = torch.sigmoid(logits)
    crossed = functional.binary_cross_entropy_with_logits(reference, probabilities, reduction="none")
    return crossed - entropy(logits)


def drawn_experience(logits: Tensor, actions: Tensor, targets: Tensor, config: Ppo) -> Experience:
    """The policy's own actions about labels that are known. logits, actions, targets: (texts, labels)."""
    rewards = text_rewards(actions, targets, config.reward).unsqueeze(1).expand_as(actions)
    old = log_prob(logits, actions, config.label_smoothing)
    return Experience(actions, old, rewards, torch.ones_like(actions), targets >= 0, logged=False)


def logged_experience(logits: Tensor, question: LoggedBatch, config: Ppo) -> Experience:
    """Decisions that were made. Importance weight: pi(a) / propensity(a), `max_weight` at most."""
    shape = slice(logits.shape[1])
    given, likely, earned = (
        torch.from_numpy(matrix[:, shape]).to(logits.device)
        for matrix in (question.actions, question.propensities, question.rewards)
        if matrix is not None
    )
    known = ~torch.isnan(given)
    actions = torch.nan_to_num(given)
    behaviour = torch.where(actions > 0, likely, 1 - likely).clamp(min=_LEAST_PROPENSITY)
    weights = torch.exp(log_prob(logits, actions)) / torch.nan_to_num(behaviour, nan=1.0)
    old = log_prob(logits, actions, config.label_smoothing)
    weights = weights.clamp(max=config.max_weight)
    return Experience(actions, old, torch.nan_to_num(earned), weights, known, logged=True)


def effective_sample_size(weights: Tensor, known: Tensor) -> float:
    """(sum w)^2 / sum w^2 (Kish): as many decisions, all of weight 1, would say as much."""
    kept = weights[known]
    return float(kept.sum() ** 2 / (kept**2).sum().clamp(min=1e-12))


def value_features(reference: Tensor, logged: bool) -> Tensor:
    """(texts, labels, _FEATURES): what a decision's reward is foretold from: how sure the reference policy is
    of it, and of the text's labels in all, and which kind of reward it is.
    """
    probabilities = torch.sigmoid(reference)
    rest = probabilities.mean(dim=1, keepdim=True).expand_as(probabilities)
    kind = torch.full_like(probabilities, float(logged))
    return torch.stack([torch.tanh(reference / 4), probabilities, rest, kind], dim=-1)


def focal_weights(actions: Tensor, log_probs: Tensor, config: Ppo) -> Tensor:
    """alpha_t (1 - p_t)^gamma of each action, p_t its probability under the policy that the step begins with.

    gamma > 0 turns the eye from decisions that the policy is sure of; alpha weighs labels that are given,
    1 - alpha those that are not.
    """
    found = (1 - torch.exp(log_probs)).clamp(min=0) ** config.focal_gamma
    if config.focal_alpha is not None:
        found = found * (config.focal_alpha * actions + (1 - config.focal_alpha) * (1 - actions))
    return found


def ppo_loss(
    logits: Tensor, values: Tensor, experience: Experience, advantages: Tensor, reference: Tensor, config: Ppo
) -> tuple[Tensor, Metrics]:
    """The clipped objective, less entropy, with the value's error and the distance from the reference policy.

    logits, values, advantages, reference: (texts, labels). Means are over the actions with a reward; the
    entropy's and the distance's over all labels. A weight of 0 leaves a term out.
    """
    known, eps = experience.known, config.clip_ratio
    ratio = torch.exp(log_prob(logits, experience.actions, config.label_smoothing) - experience.log_probs)
    clipped = ratio.clamp(1 - eps, 1 + eps)
    gains = torch.minimum(ratio * advantages, clipped * advantages) * experience.weights
    gains = gains * focal_weights(experience.actions, experience.log_probs, config)
    terms = {"policy_loss": -_mean(gains, known)}
    loss = terms["policy_loss"]
    if config.value_weight:
        terms["value_loss"] = _mean((values - experience.rewards) ** 2, known)
        loss = loss + config.value_weight * terms["value_loss"]
    if config.kl_weight:
        terms["kl"] = kl_divergence(logits, reference).mean()
        loss = loss + config.kl_weight * terms["kl"]
    if config.entropy_weight:
        terms["entropy"] = entropy(logits).mean()
        loss = loss - config.entropy_weight * terms["entropy"]
    return loss, {
        **_earned(experience),
        "clipped_share": float(_mean((ratio != clipped).float(), known)),
        **{name: float(term.detach()) for name, term in terms.items()},
    }


def _mean(values: Tensor, known: Tensor) -> Tensor:
    """0 where nothing is known: the labels that a reward is about may not all find room in a window."""
    return values[known].sum() / known.sum().clamp(min=1)


def _earned(experience: Experience) -> Metrics:
    if not experience.known.any():
        return {}
    reward = float(experience.rewards[experience.known].mean())
    if not experience.logged:
        return {"reward": reward}
    size = effective_sample_size(experience.weights, experience.known)
    return {"logged_reward": reward, "effective_sample_size": size}


class _Policy(nn.Module):
    """The model, whose logits are the policy's, and beside it the value: what reward a decision can expect."""

    def __init__(self, model: Model, tokenizer: PreTrainedTokenizerFast, max_text_tokens: int) -> None:
        super().__init__()
        self.model = model
        self.asked = trainable_model(model, tokenizer, max_text_tokens)
        self.value = nn.Sequential(nn.Linear(_FEATURES, 16), nn.Tanh(), nn.Linear(16, 1))

    def forward(
        self, inputs: dict[str, Tensor], temperatures: Tensor, features: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        logits = self.asked.logits(inputs).float() / temperatures
        return logits, None if features is None else self.value(features).squeeze(-1)


def _question(sources: Sources, logged_share: float, place: int, seed: int) -> TrainingBatch:
    logged = np.random.default_rng((seed, place, 4)).random() < logged_share
    if sources.known is None or (logged and sources.logged is not None):
        assert sources.logged is not None  # noqa: S101
        return sources.logged[place]
    return sources.known[place]


def _optimizer(policy: _Policy, config: Ppo) -> torch.optim.Optimizer:
    rates = {"model.encoder_model.": config.encoder_lr, "model.": config.head_lr, "value.": config.value_lr}
    groups: dict[float, list[nn.Parameter]] = {}
    for name, weight in policy.named_parameters():
        if weight.requires_grad:
            rate = next(rate for prefix, rate in rates.items() if name.startswith(prefix))
            groups.setdefault(rate, []).append(weight)
    return torch.optim.AdamW(
        [{"params": weights, "lr": rate, "initial_lr": rate, "weight_decay": 0.0} for rate, weights in groups.items()]
    )
