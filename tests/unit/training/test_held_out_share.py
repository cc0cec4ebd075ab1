"""The share of the starting weights follows what a training on some examples makes of the others."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.config.training import HeadFallback, SamplingConfig, TrainingConfig
from gliclass_spark.model.architectures.label_cached import LabelCachedModel
from gliclass_spark.model.checkpoint import load
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.head import held_out_head_gain
from gliclass_spark.training.held_out_share import (
    SHARES,
    HeldOutLogits,
    averaged_models,
    clear_gain_share,
    held_out_gains,
    held_out_logits,
    split_fold,
)
from gliclass_spark.training.supervised import train

ANIMALS = LabelledSet(
    "animals",
    ("cat", "dog"),
    ("meow purr", "meow", "purr", "purr meow", "woof", "bark", "woof bark", "bark woof"),
    ((0,), (0,), (0,), (0,), (1,), (1,), (1,), (1,)),
)
LABELS = np.array([0, 1] * 20)


def by_share(start: NDArray[np.float64], trained: NDArray[np.float64]) -> list[list[HeldOutLogits]]:
    """Logits that go from those of the trained weights to those of the start."""
    return [[HeldOutLogits(share * start + (1 - share) * trained, LABELS)] for share in SHARES]


NOISE = np.random.default_rng(0).normal(0, 1, (40, 2))
RIGHT = np.eye(2)[LABELS]


def test_each_example_is_held_out_once_and_every_label_is_left_to_train_on() -> None:
    folds = [split_fold(ANIMALS, 2, number) for number in range(2)]
    assert sorted(text for _, held_out in folds for text in held_out.texts) == sorted(ANIMALS.texts)
    for kept, held_out in folds:
        assert not set(kept.texts) & set(held_out.texts)
        assert [len(rows) for rows in kept.by_label()] == [len(rows) for rows in held_out.by_label()] == [2, 2]


def test_a_training_that_makes_held_out_examples_likelier_counts_and_one_that_does_not_is_left_out() -> None:
    assert clear_gain_share(by_share(start=NOISE, trained=NOISE + 4 * RIGHT)) < 0.5
    assert clear_gain_share(by_share(start=NOISE + 4 * RIGHT, trained=NOISE - 4 * RIGHT)) == 1


def test_a_gain_within_two_standard_errors_is_left_out() -> None:
    """One held-out example in ten becomes much likelier, and the others a little less so."""
    helped = np.arange(len(LABELS)) % 10 == 0
    trained = np.where(helped[:, None], NOISE + 6 * RIGHT, NOISE - 0.1 * RIGHT)
    gains, errors = held_out_gains(by_share(NOISE, trained))
    assert 0 < gains.max() < 2 * errors[gains.argmax()]
    assert clear_gain_share(by_share(NOISE, trained)) == 1


def test_the_fewer_examples_there_are_the_clearer_their_gain_must_be() -> None:
    """A gain of more than two standard errors is enough for forty examples, not for sixteen."""
    clear = np.where(np.arange(len(LABELS)) % 4 < 2, 0.55, -0.1)[:, None]
    logits = by_share(NOISE, NOISE + clear * RIGHT)
    few = [[HeldOutLogits(judged.logits[:16], judged.labels[:16])] for [judged] in logits]
    for examples, enough in ((logits, True), (few, False)):
        gains, errors = held_out_gains(examples)
        assert (gains[:-1] / errors[:-1]).max() > 2.5
        assert (clear_gain_share(examples) < 1) == enough


def test_a_model_that_is_only_surer_of_the_same_labels_is_no_better_and_no_worse() -> None:
    start = NOISE + RIGHT
    surer = [[HeldOutLogits(start * (20 - 19 * share), LABELS)] for share in SHARES]
    likelihoods = [each.log_likelihoods().mean() for [each] in surer]
    assert likelihoods[0] < likelihoods[-1] - 1
    better = by_share(start, 20 * (start + RIGHT))
    assert better[0][0].log_likelihoods().mean() < likelihoods[-1]
    assert clear_gain_share(better) < 0.5


def test_without_two_labels_in_each_fold_the_start_stays(tiny_label_cached_model: str) -> None:
    one_each = ANIMALS.rows([0, 4])
    checkpoint = load(resolve_model(tiny_label_cached_model))

    def not_called(*_: object) -> None:
        raise AssertionError("a fold of one label was trained on")

    logits = held_out_logits(checkpoint.model, checkpoint.tokenizer, [one_each], 2, 128, not_called)
    assert (logits, clear_gain_share(logits)) == ([], 1)


def test_models_are_averaged_from_the_trained_weights_to_the_start(tiny_label_cached_model: str) -> None:
    start = load(resolve_model(tiny_label_cached_model)).model
    trained = copy.deepcopy(start)
    with torch.no_grad():
        for weight in trained.parameters():
            weight.add_(1.0)
    name, of_start = next(iter(start.named_parameters()))
    for share, averaged in zip(SHARES, averaged_models(start, trained, SHARES), strict=True):
        torch.testing.assert_close(dict(averaged.named_parameters())[name], of_start + (1 - share))


def test_a_training_takes_the_share_of_the_folds_and_continues_with_it(
    tiny_label_cached_model: str, tmp_path: Path
) -> None:
    sampling = SamplingConfig(texts=4, min_labels=2, max_labels=2, negative_share=0)
    config = TrainingConfig(steps=2, sampling=sampling, head_lr=0.1)

    def trained(folder: Path, **settings: float) -> torch.Tensor:
        checkpoint = load(resolve_model(tiny_label_cached_model))
        train(checkpoint.model, checkpoint.tokenizer, [ANIMALS], config.model_copy(update=settings), folder)
        weight: torch.Tensor = load(resolve_model(str(folder))).model.state_dict()["text_projector.weight"]
        return weight

    from_folds = trained(tmp_path / "folds", start_weight_folds=2)
    share_file = tmp_path / "folds" / "steps" / "start_weight_share.json"
    share = json.loads(share_file.read_text(encoding="utf-8"))
    assert share in SHARES
    torch.testing.assert_close(from_folds, trained(tmp_path / "share", start_weight_share=share))

    at_least = trained(tmp_path / "least", start_weight_folds=2, start_weight_examples=792.0)
    torch.testing.assert_close(at_least, trained(tmp_path / "most", start_weight_share=max(share, 0.99)))

    stopped = tmp_path / "stopped" / "steps"
    stopped.mkdir(parents=True)
    (stopped / share_file.name).write_text("0.25", encoding="utf-8")
    continued = trained(tmp_path / "stopped", start_weight_folds=2)
    torch.testing.assert_close(continued, trained(tmp_path / "quarter", start_weight_share=0.25))


# Each half of the examples teaches the opposite of what the other half says.
MISLEADING = LabelledSet(
    "animals",
    ("cat", "dog"),
    ("meow", "woof", "purr", "bark", "woof", "meow", "bark", "purr"),
    ((0,), (0,), (0,), (0,), (1,), (1,), (1,), (1,)),
)
HEAD = HeadFallback(steps=100, head_lr=1e-2, start_weight_penalty=0.01)
HEAD_ALONE = TrainingConfig(encoder_lr=0.0, **HEAD.model_dump())


def weights_without_clear_gain(
    model: str, sets: Sequence[LabelledSet], folder: Path, **settings: float | None
) -> dict[str, torch.Tensor]:
    """Return the weights of a training whose held-out examples showed no clear gain."""
    (folder / "steps").mkdir(parents=True)
    (folder / "steps" / "start_weight_share.json").write_text("1.0", encoding="utf-8")
    config = TrainingConfig(steps=2, start_weight_folds=2, head_fallback=HEAD).model_copy(update=settings)
    checkpoint = load(resolve_model(model))
    train(checkpoint.model, checkpoint.tokenizer, sets, config, folder)
    return load(resolve_model(str(folder))).model.state_dict()


def assert_same(weights: Mapping[str, torch.Tensor], others: Mapping[str, torch.Tensor]) -> None:
    for name, weight in others.items():
        torch.testing.assert_close(weights[name], weight, msg=name)


def test_a_head_is_judged_by_examples_that_its_training_has_not_seen(tiny_label_cached_model: str) -> None:
    checkpoint = load(resolve_model(tiny_label_cached_model))
    assert isinstance(checkpoint.model, LabelCachedModel)
    before = copy.deepcopy(checkpoint.model.state_dict())
    gains = [
        held_out_head_gain(checkpoint.model, checkpoint.tokenizer, examples, HEAD_ALONE, 2)
        for examples in (ANIMALS, MISLEADING, ANIMALS.rows([0, 4]))
    ]
    assert gains[0] > 0.01
    assert gains[1] < -0.01
    assert gains[2] == 0  # a fold of one label
    assert_same(checkpoint.model.state_dict(), before)


def test_without_a_clear_gain_the_head_alone_is_trained_if_held_out_examples_become_likelier(
    tiny_label_cached_model: str, tmp_path: Path
) -> None:
    start = load(resolve_model(tiny_label_cached_model))
    before = copy.deepcopy(start.model.state_dict())
    head = weights_without_clear_gain(tiny_label_cached_model, [ANIMALS], tmp_path / "head")
    train(start.model, start.tokenizer, [ANIMALS], HEAD_ALONE, tmp_path / "alone")
    assert_same(head, start.model.state_dict())
    assert not torch.equal(head["text_projector.weight"], before["text_projector.weight"])

    averaged = weights_without_clear_gain(
        tiny_label_cached_model, [ANIMALS], tmp_path / "averaged", start_weight_examples=24.0
    )
    assert_same(averaged, {name: 0.75 * before[name] + 0.25 * weight for name, weight in head.items()})


@pytest.mark.parametrize("sets", [[MISLEADING], [ANIMALS, ANIMALS]], ids=["misleading", "two sets"])
def test_without_a_gain_of_the_head_of_one_set_the_weights_stay(
    sets: list[LabelledSet], tiny_label_cached_model: str, tmp_path: Path
) -> None:
    before = load(resolve_model(tiny_label_cached_model)).model.state_dict()
    assert_same(weights_without_clear_gain(tiny_label_cached_model, sets, tmp_path), before)


def test_a_model_whose_head_is_not_trained_alone_stays_as_it_was(tiny_model: str, tmp_path: Path) -> None:
    before = load(resolve_model(tiny_model)).model.state_dict()
    # Nor is it trained, only for the result to be left out.
    assert_same(weights_without_clear_gain(tiny_model, [ANIMALS], tmp_path, steps=1_000_000_000), before)
