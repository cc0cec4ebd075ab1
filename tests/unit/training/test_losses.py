"""Training losses against values computed by hand."""

from __future__ import annotations

import math

import torch

from gliclass_spark.config.training import TrainingConfig
from gliclass_spark.training.losses import classification_loss, focal_loss, softmax_loss

PADDING = -1.0


def sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-logit))


def test_focal_loss_is_the_papers_formula() -> None:
    logits, targets = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 0.0]])
    p_true, p_false = sigmoid(2.0), 1 - sigmoid(-1.0)
    terms = [
        -0.7 * (1 - p_true) ** 2 * math.log(p_true),
        -0.3 * (1 - p_false) ** 2 * math.log(p_false),
    ]
    loss = focal_loss(logits, targets, focal_alpha=0.7, focal_gamma=2.0)
    torch.testing.assert_close(loss.item(), sum(terms) / 2, rtol=1e-5, atol=1e-7)


def test_focal_loss_without_alpha_and_gamma_is_cross_entropy() -> None:
    logits, targets = torch.tensor([[0.3, -2.0]]), torch.tensor([[0.0, 1.0]])
    expected = (-math.log(1 - sigmoid(0.3)) - math.log(sigmoid(-2.0))) / 2
    loss = focal_loss(logits, targets, focal_alpha=None, focal_gamma=0)
    torch.testing.assert_close(loss.item(), expected, rtol=1e-5, atol=1e-7)


def test_gamma_lowers_the_weight_of_easy_labels() -> None:
    easy, hard = torch.tensor([[4.0]]), torch.tensor([[-1.0]])
    true = torch.ones(1, 1)

    def ratio(gamma: float) -> float:
        easy_loss = focal_loss(easy, true, focal_alpha=None, focal_gamma=gamma)
        return float(easy_loss / focal_loss(hard, true, focal_alpha=None, focal_gamma=gamma))

    assert ratio(2.0) < ratio(1.0) < ratio(0.0)


def test_padding_counts_neither_as_a_label_nor_as_a_true_negative() -> None:
    logits, targets = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 0.0]])
    padded_logits, padded = torch.tensor([[2.0, -1.0, 9.0]]), torch.tensor([[1.0, 0.0, PADDING]])
    for loss in (lambda x, y: focal_loss(x, y, focal_alpha=0.7, focal_gamma=2.0), softmax_loss):
        torch.testing.assert_close(loss(padded_logits, padded), loss(logits, targets))


def test_weights_multiply_the_loss_of_each_label() -> None:
    logits, targets = torch.tensor([[2.0, -1.0]]), torch.tensor([[1.0, 0.0]])
    one, other = (focal_loss(logits[:, [at]], targets[:, [at]], focal_alpha=None, focal_gamma=2) for at in (0, 1))
    loss = focal_loss(logits, targets, focal_alpha=None, focal_gamma=2, weights=torch.tensor([[3.0, 0.5]]))
    torch.testing.assert_close(loss, (3.0 * one + 0.5 * other) / 2)


def test_softmax_loss_is_minus_log_of_the_true_labels_probability() -> None:
    logits, targets = torch.tensor([[1.0, 0.0, 2.0]]), torch.tensor([[1.0, 0.0, 1.0]])
    share = (math.exp(1) + math.exp(2)) / (math.exp(1) + 1 + math.exp(2))
    torch.testing.assert_close(softmax_loss(logits, targets).item(), -math.log(share), rtol=1e-5, atol=1e-7)


def test_a_text_without_true_labels_adds_nothing_to_the_softmax_loss() -> None:
    logits = torch.tensor([[1.0, 0.0], [5.0, 5.0]])
    targets = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    torch.testing.assert_close(softmax_loss(logits, targets), softmax_loss(logits[:1], targets[:1]))


def test_gradients_agree_with_finite_differences() -> None:
    logits = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    targets = torch.tensor([[1, 0, 0, -1], [0, 1, 1, 0], [1, 0, -1, -1]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: focal_loss(x, targets, focal_alpha=0.6, focal_gamma=2.0), logits)
    assert torch.autograd.gradcheck(lambda x: softmax_loss(x, targets), logits)


def test_the_softmax_loss_weighs_a_text_by_its_true_labels() -> None:
    logits = torch.tensor([[1.0, 0.0, 2.0], [0.5, -1.0, 0.0]])
    targets = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    first, second = (softmax_loss(logits[[row]], targets[[row]]) for row in (0, 1))
    weights = torch.tensor([[0.5, 1.0, 1.5], [1.0, 0.05, 1.0]])
    torch.testing.assert_close(softmax_loss(logits, targets, weights), (1.0 * first + 0.05 * second) / 2)
    torch.testing.assert_close(softmax_loss(logits, targets, torch.ones_like(logits)), softmax_loss(logits, targets))


def test_a_label_of_weight_0_is_unknown_to_the_softmax_loss() -> None:
    logits, targets = torch.tensor([[2.0, -1.0, 9.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    weights = torch.tensor([[1.0, 1.0, 0.0]])
    unknown = torch.tensor([[1.0, 0.0, PADDING]])
    torch.testing.assert_close(softmax_loss(logits, targets, weights), softmax_loss(logits, unknown))


def test_the_training_loss_hands_its_weights_to_both_parts() -> None:
    logits, targets = torch.tensor([[2.0, -1.0], [0.0, 0.5]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    config = TrainingConfig(steps=1)
    once, twice = (
        classification_loss(logits, targets, torch.full_like(logits, weight), config) for weight in (1.0, 2.0)
    )
    torch.testing.assert_close(twice, 2 * once)
