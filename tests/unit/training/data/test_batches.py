"""Training batches: determined by seed and position, with right targets and unique labels."""

from __future__ import annotations

import numpy as np
import pytest

from gliclass_spark.config.training import SamplingConfig
from gliclass_spark.errors import TrainingError
from gliclass_spark.training.data.batches import BatchSampler, TrainingBatch
from gliclass_spark.training.data.labelled_text import LabelledSet

_KINDS = ("cat", "dog", "owl")
ANIMALS = LabelledSet(
    "animals", _KINDS, tuple(f"a {kind} {number}" for number in range(8) for kind in _KINDS), ((0,), (1,), (2,)) * 8
)
COLOURS = LabelledSet("colours", ("red", "green", "Cat"), ("it is red", "red and green"), ((0,), (0, 1)))
CONFIG = SamplingConfig(texts=4, min_labels=2, max_labels=6, negative_share=0.5)


def batches(config: SamplingConfig = CONFIG, seed: int = 1, size: int = 60) -> list[TrainingBatch]:
    sampler = BatchSampler([ANIMALS, COLOURS], config, size=size, seed=seed)
    return [sampler[position] for position in range(len(sampler))]


def same(one: TrainingBatch, other: TrainingBatch) -> bool:
    return (one.texts, one.labels, one.targets.tolist()) == (other.texts, other.labels, other.targets.tolist())


def test_the_same_seed_gives_the_same_batches_in_any_order() -> None:
    sampler = BatchSampler([ANIMALS, COLOURS], CONFIG, size=60, seed=1)
    backwards = [sampler[position] for position in reversed(range(60))]
    assert all(same(one, other) for one, other in zip(batches(), backwards[::-1], strict=True))
    assert not all(same(one, other) for one, other in zip(batches(), batches(seed=2), strict=True))


def test_a_target_is_1_where_the_text_has_the_label_and_labels_are_unique() -> None:
    for batch in batches():
        assert 2 <= len(batch.labels) == len({label.casefold() for label in batch.labels})
        assert 1 <= len(batch.texts) <= 4
        expected = [[float(label in text) for label in batch.labels] for text in batch.texts]
        # "Cat" of the colours is no label of the animals' texts, nor the other way round.
        assert batch.targets.tolist() == expected
        assert batch.targets.any(axis=1).all()


def test_the_share_of_negatives_from_other_sets_is_the_configured_one() -> None:
    def negatives(share: float) -> float:
        drawn = batches(SamplingConfig(texts=4, min_labels=6, max_labels=6, negative_share=share), size=200)
        animals = [batch for batch in drawn if batch.texts[0].startswith("a ")]
        return float(np.mean([sum(label not in _KINDS for label in batch.labels) for batch in animals]))

    assert negatives(0.0) == 0.0
    # Of six labels a third are drawn, and of these the ones that no set names twice are there: two at most.
    assert 0.5 < negatives(1 / 3) <= 2


def test_joined_texts_have_the_labels_of_both() -> None:
    for batch in batches(SamplingConfig(texts=4, min_labels=3, max_labels=3, negative_share=0, joined_share=1)):
        expected = [[float(label in text) for label in batch.labels] for text in batch.texts]
        assert batch.targets.tolist() == expected
        assert all(text.count("a ") == 2 or text.count("red") == 2 for text in batch.texts)


def test_a_sampler_without_sets_is_refused() -> None:
    with pytest.raises(TrainingError, match="there is no labelled set to train on"):
        BatchSampler([], CONFIG, size=1, seed=0)


def test_reworded_labels_have_the_same_targets() -> None:
    plain = batches(SamplingConfig(texts=4, min_labels=3, max_labels=3, negative_share=0))
    reworded = batches(SamplingConfig(texts=4, min_labels=3, max_labels=3, negative_share=0, reworded_share=1))
    for batch, other in zip(plain, reworded, strict=True):
        assert batch.texts == other.texts
        assert batch.targets.tolist() == other.targets.tolist()
        assert all(one.casefold() in two.casefold() for one, two in zip(batch.labels, other.labels, strict=True))
    assert len({label.replace("cat", "dog") for batch in reworded for label in batch.labels}) > 20


@pytest.mark.parametrize(("power", "expected"), [(0.0, 1 / 2), (0.5, 2 / 3), (1.0, 4 / 5)])
def test_sets_are_drawn_in_proportion_to_a_power_of_their_size(power: float, expected: float) -> None:
    many = ANIMALS.rows([*range(24)] * 4)
    config = SamplingConfig(texts=2, min_labels=2, max_labels=2, negative_share=0, size_power=power)
    few = LabelledSet("few", ("red", "green"), ("it is red", "it is green") * 12, ((0,), (1,)) * 12)
    sampler = BatchSampler([many, few], config, size=600, seed=1)
    drawn = [sampler[position].texts[0].startswith("a ") for position in range(len(sampler))]
    assert np.mean(drawn) == pytest.approx(expected, abs=0.06)


def test_batches_of_one_source_have_its_labels_and_texts_only() -> None:
    lists = LabelledSet(
        "lists",
        ("c compilers", "c editors", "rust compilers", "rust crates", "rust", "only"),
        ("gcc", "vim", "rustc", "serde", "tokio", "alone"),
        ((0,), (1,), (2, 4), (3, 4), (3, 4), (5,)),
        ("c", "c", "rust", "rust", "rust", "single"),
    )

    def drawn(share: float) -> list[TrainingBatch]:
        config = SamplingConfig(texts=4, min_labels=6, max_labels=6, negative_share=0, same_source_share=share)
        sampler = BatchSampler([lists], config, size=40, seed=1)
        return [sampler[position] for position in range(len(sampler))]

    assert all(len(batch.labels) == 6 for batch in drawn(0))
    # "rust" holds for every text of its source, so it tells none apart; "single" has one label.
    sources = {frozenset({"c compilers", "c editors"}): {"gcc", "vim"}}
    sources[frozenset({"rust compilers", "rust crates"})] = {"rustc", "serde", "tokio"}
    assert {frozenset(batch.labels) for batch in drawn(1)} == sources.keys()
    assert all(set(batch.texts) <= sources[frozenset(batch.labels)] for batch in drawn(1))
    of_one_source = [len(batch.labels) == 2 for batch in drawn(0.5)]
    assert 0.2 < np.mean(of_one_source) < 0.8


def test_the_share_of_batches_with_the_full_window_is_the_configured_one() -> None:
    assert not any(batch.full_window for batch in batches())
    config = CONFIG.model_copy(update={"full_window_share": 0.25})
    assert 0.1 < np.mean([batch.full_window for batch in batches(config, size=200)]) < 0.4
