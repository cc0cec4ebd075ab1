"""Few examples: what contradicts, lacks or will not do, and how far the trained weights count."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedTokenizerFast

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.config.training import SamplingConfig, TrainingConfig
from gliclass_spark.errors import ConfigError, TrainingError
from gliclass_spark.model.architectures.label_cached import LabelCachedModel
from gliclass_spark.model.checkpoint import load
from gliclass_spark.training.data.batches import TrainingBatch
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.few_shot import (
    ENOUGH_EXAMPLES,
    contradictions,
    few_shot_config,
    head_config,
    notes,
    without_contradictions,
)
from gliclass_spark.training.forward_pass import trainable_model
from gliclass_spark.training.head import train_head
from gliclass_spark.training.losses import classification_loss
from gliclass_spark.training.supervised import train

ROOT = Path(__file__).parents[3]
KINDS = ("cat", "dog", "owl")


def examples(*rows: tuple[str, tuple[int, ...]]) -> LabelledSet:
    return LabelledSet("animals", KINDS, tuple(text for text, _ in rows), tuple(labels for _, labels in rows))


MIXED = examples(
    ("It purrs", (0,)), ("it  PURRS", (1,)), ("it barks", (1,)), ("it barks", (1,)), ("it hoots", (2,)), ("meow", (0,))
)


def test_equal_texts_with_different_labels_contradict_each_other_and_are_left_out() -> None:
    assert contradictions(MIXED) == {0, 1}
    assert without_contradictions(MIXED).texts == ("it barks", "it barks", "it hoots", "meow")


def test_the_order_of_labels_and_a_repeated_example_are_no_contradiction() -> None:
    assert contradictions(examples(("both", (0, 1)), ("both", (1, 0)), ("both", (0, 1)))) == frozenset()


def test_a_contradiction_is_noted_with_its_text_and_labels() -> None:
    first = next(notes(MIXED))
    assert first == (
        "animals: 2 examples contradict each other and are left out; 'It purrs' has the labels cat and dog: give each "
        "text its labels once"
    )


def test_labels_without_an_example_are_noted() -> None:
    first = next(notes(examples(("meow", (0,)), ("woof", (1,)))))
    assert first == ("animals: 1 of 3 labels have no example, so the training knows at most what they are not: owl")


@pytest.mark.parametrize(
    "rows", [(), (("meow", (0,)),), (("meow", (0,)), ("purr", (0,))), (("it", (0,)), ("it", (1,)), ("meow", (0,)))]
)
def test_examples_of_fewer_than_two_labels_are_refused(rows: tuple[tuple[str, tuple[int, ...]], ...]) -> None:
    with pytest.raises(TrainingError, match=r"animals has examples of [01] label\(s\).* give some of at least two"):
        without_contradictions(examples(*rows))


def test_one_example_a_label_is_noted_with_the_number_that_would_do() -> None:
    one_each = examples(("meow", (0,)), ("woof", (1,)), ("hoot", (2,)))
    assert list(notes(one_each)) == [
        "animals: 3 examples may help or not: evaluate before and after, or give about 100, 34 of each label"
    ]
    assert without_contradictions(one_each) == one_each


def test_enough_examples_are_not_noted() -> None:
    assert list(notes(examples(*((f"text {row}", (row % 3,)) for row in range(ENOUGH_EXAMPLES))))) == []


def test_the_start_counts_for_a_number_of_examples(tiny_label_cached_model: str, tmp_path: Path) -> None:
    """Of two examples, start weights that count for six are three quarters of the weights."""
    two = examples(("meow meow", (0,)), ("woof woof", (1,)))
    config = TrainingConfig(steps=2, sampling=SamplingConfig(texts=2, min_labels=2, max_labels=2), head_lr=0.1)

    def trained(name: str, **settings: float) -> torch.Tensor:
        checkpoint = load(resolve_model(tiny_label_cached_model))
        train(checkpoint.model, checkpoint.tokenizer, [two], config.model_copy(update=settings), tmp_path / name)
        weight: torch.Tensor = load(resolve_model(str(tmp_path / name))).model.state_dict()["text_projector.weight"]
        return weight

    by_examples, by_share = trained("examples", start_weight_examples=6.0), trained("share", start_weight_share=0.75)
    torch.testing.assert_close(by_examples, by_share)
    assert not torch.equal(by_share, trained("all"))


def test_the_files_of_few_shot_training_are_what_evaluate_does() -> None:
    from_file = TrainingConfig.from_yaml(ROOT / "conf/train/few_shot_head.yaml")
    assert from_file == head_config()
    file = TrainingConfig.from_yaml(ROOT / "conf/train/few_shot.yaml")
    fields = {"steps", "sampling", "save_steps"}  # which follow from the examples
    assert file.model_dump(exclude=fields) == few_shot_config(SOUNDS, 0).model_dump(exclude=fields)
    assert (file.sampling.texts, file.sampling.negative_share) == (32, 0)


@pytest.mark.parametrize("other", ["start_weight_examples: 32", "start_weight_folds: 2"])
def test_a_share_and_what_would_set_it_are_refused_together(other: str, tmp_path: Path) -> None:
    file = tmp_path / "few.yaml"
    file.write_text(f"start_weight_share: 0.3\n{other}\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="both set the share of the starting weights; remove one"):
        TrainingConfig.from_yaml(file)


HEAD = TrainingConfig(steps=30, encoder_lr=0.0, head_lr=1e-2)
SOUNDS = examples(("meow purr", (0,)), ("purr", (0,)), ("bark woof", (1,)), ("woof", (1,)), ("hoot", (2,)))


def of_head(model: LabelCachedModel) -> dict[str, torch.Tensor]:
    return {name: weight.clone() for name, weight in model.state_dict().items() if "encoder" not in name}


@pytest.fixture
def tiny(tiny_label_cached_model: str) -> tuple[LabelCachedModel, PreTrainedTokenizerFast]:
    loaded = load(resolve_model(tiny_label_cached_model))
    assert isinstance(loaded.model, LabelCachedModel)
    return loaded.model, loaded.tokenizer


def test_training_the_head_fits_the_examples_and_leaves_the_encoder(
    tiny: tuple[LabelCachedModel, PreTrainedTokenizerFast],
) -> None:
    """The loss is that of the model itself: what is trained on encoded texts holds for texts."""
    model, tokenizer = tiny
    trainable = trainable_model(model, tokenizer, 128)
    targets = np.eye(3, dtype=np.float32)[[labels[0] for labels in SOUNDS.targets]]
    inputs = trainable.inputs(TrainingBatch(SOUNDS.texts, SOUNDS.labels, targets))
    encoder = {name: weight.clone() for name, weight in model.encoder_model.state_dict().items()}

    def loss() -> float:
        return float(classification_loss(trainable.logits(inputs), inputs["targets"], None, HEAD).detach())

    before = loss()
    train_head(model, tokenizer, SOUNDS, HEAD)
    assert loss() < before / 2
    assert all(torch.equal(weight, encoder[name]) for name, weight in model.encoder_model.state_dict().items())


def test_a_penalty_keeps_the_head_at_the_start_and_more_examples_move_it_further(
    tiny: tuple[LabelCachedModel, PreTrainedTokenizerFast],
) -> None:
    model, tokenizer = tiny

    def distance(labelled: LabelledSet, penalty: float) -> float:
        trained = copy.deepcopy(model)
        train_head(trained, tokenizer, labelled, HEAD.model_copy(update={"start_weight_penalty": penalty}))
        return float((trained.text_projector.weight - model.text_projector.weight).norm().detach())

    ten_times = SOUNDS.rows([*range(len(SOUNDS))] * 10)
    assert distance(SOUNDS, 1e4) < distance(ten_times, 1e4) < distance(SOUNDS, 0.0)


def test_the_start_keeps_its_share_of_the_head(tiny: tuple[LabelCachedModel, PreTrainedTokenizerFast]) -> None:
    model, tokenizer = tiny
    start, trained, averaged = of_head(model), copy.deepcopy(model), copy.deepcopy(model)
    train_head(trained, tokenizer, SOUNDS, HEAD)
    train_head(averaged, tokenizer, SOUNDS, HEAD.model_copy(update={"start_weight_share": 0.75}))
    for name, weight in of_head(averaged).items():
        torch.testing.assert_close(weight, 0.75 * start[name] + 0.25 * of_head(trained)[name])


def test_a_loss_that_is_no_number_leaves_the_model_as_it_was(
    tiny: tuple[LabelCachedModel, PreTrainedTokenizerFast],
) -> None:
    model, tokenizer = tiny
    start = of_head(model)
    with pytest.raises(TrainingError, match="the loss is not a number; the model is as before"):
        train_head(model, tokenizer, SOUNDS, HEAD.model_copy(update={"head_lr": 1e30, "scalar_lr": 1e30}))
    assert all(torch.equal(weight, start[name]) for name, weight in of_head(model).items())
