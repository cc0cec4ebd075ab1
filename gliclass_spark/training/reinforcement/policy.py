"""The policy of PPO: an independent Bernoulli action for each text and label, and a value head.

Action 1 gives the label to the text, action 0 does not.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from gliclass_spark.config.retraining import NotGiven
from gliclass_spark.model.checkpoint import Model
from gliclass_spark.training.forward_pass import trainable_model

_VALUE_FEATURES = 4


class Policy(nn.Module):
    """The model, whose logits are the policy's, and a value head that predicts the reward of both actions."""

    def __init__(self, model: Model, tokenizer: PreTrainedTokenizerFast, max_text_tokens: int) -> None:
        super().__init__()
        self.model = model
        self.trainable = trainable_model(model, tokenizer, max_text_tokens)
        self.value = value_head()

    def forward(
        self, inputs: dict[str, Tensor], temperatures: Tensor, biases: Tensor, features: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return calibrated logits, (texts, labels), and, if there are value features, q-values, (texts, labels, 2).

        q-values: the expected rewards of not giving the label (action 0) and of giving it (action 1).
        """
        logits = self.trainable.logits(inputs).float() / temperatures + biases
        return logits, None if features is None else self.value(features)


def value_head() -> nn.Module:
    """Return a network from value features, (texts, labels, 4), to the rewards of both actions, (texts, labels, 2)."""
    return nn.Sequential(nn.Linear(_VALUE_FEATURES, 16), nn.Tanh(), nn.Linear(16, 2))


def value_features(ref_logits: Tensor, sharing: Tensor | None) -> Tensor:
    """Return the inputs of the value head, (texts, labels, 4).

    sharing: of logged decisions, whether the reward is that of all labels of the text; None for sampled ones. They are
    the reference policy's logit and probability, its mean probability over the text's labels, and what the rewards are
    of: 0 sampled actions, 1 a logged decision on a label, -1 one on all labels of a text.
    """
    probabilities = torch.sigmoid(ref_logits)
    text_mean = probabilities.mean(dim=1, keepdim=True).expand_as(probabilities)
    kind = torch.zeros_like(probabilities) if sharing is None else 1 - 2 * sharing.to(probabilities.dtype)
    return torch.stack([torch.tanh(ref_logits / 4), probabilities, text_mean, kind], dim=-1)


def action_values(q_values: Tensor, actions: Tensor) -> Tensor:
    """Return q(a) of each action, (texts, labels). q_values: (texts, labels, 2)."""
    return q_values.gather(-1, actions.long().unsqueeze(-1)).squeeze(-1)


def state_values(q_values: Tensor, logits: Tensor, not_given: NotGiven = "unknown") -> Tensor:
    """Return v = pi(1) q(1) + pi(0) q(0) of each text and label, (texts, labels): the baseline of an advantage.

    not_given: with "zero" the reward of not giving a label is known to be 0, so v = pi(1) q(1).
    """
    pi, (q_not_given, q_given) = torch.sigmoid(logits), q_values.unbind(-1)
    return pi * q_given if not_given == "zero" else pi * q_given + (1 - pi) * q_not_given


def sample_actions(logits: Tensor, seed: tuple[int, int]) -> Tensor:
    """Return Bernoulli actions, (texts, labels), 1 or 0; the same ones for the same seed (training, position)."""
    uniform = np.random.default_rng((*seed, 3)).random(tuple(logits.shape), dtype=np.float32)
    return (torch.from_numpy(uniform).to(logits.device) < torch.sigmoid(logits)).float()


def log_prob(logits: Tensor, actions: Tensor, label_smoothing: float = 0.0) -> Tensor:
    """Return log pi(a) of each action; smoothed by s, (1 - s / 2) log pi(a) + s / 2 log pi(1 - a)."""
    smoothed = actions * (1 - label_smoothing) + label_smoothing / 2
    return -functional.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")


def entropy(logits: Tensor) -> Tensor:
    """Return the entropy of each Bernoulli distribution, in nats."""
    probabilities = torch.sigmoid(logits)
    return functional.binary_cross_entropy_with_logits(logits, probabilities, reduction="none")


def kl_divergence(logits: Tensor, ref_logits: Tensor) -> Tensor:
    """Return KL(pi || pi_ref) of each label's two Bernoulli distributions, in nats."""
    probabilities = torch.sigmoid(logits)
    cross_entropy = functional.binary_cross_entropy_with_logits(ref_logits, probabilities, reduction="none")
    return cross_entropy - entropy(logits)
