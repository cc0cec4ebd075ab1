"""The questions of a training: decided by seed and position, true, and never a label twice."""

from __future__ import annotations

import numpy as np
import pytest

from gliclass_spark.errors import TrainingError
from gliclass_spark.training.data.batches import BatchSampler, SamplingConfig, TrainingBatch
from gliclass_spark.training.data.labelled_text import LabelledSet

_KINDS = ("cat", "dog", "owl")
ANIMALS = LabelledSet(
    "animals", _KINDS, tuple(f"a {kind} {number}" for number in range(8) for kind in _KINDS), ((0,), (1,), (2,)) * 8
)
COLOURS = LabelledSet("colours", ("red", "green", "Cat"), ("it is red", "red and green"), ((0,), (0, 1)))
CONFIG = SamplingConfig(texts=4, min_labels=2, max_labels=6, foreign_share=0.5)


def questions(config: SamplingConfig = CONFIG, seed: int = 1, size: int = 60) -> list[TrainingBatch]:
    asked = BatchSampler([ANIMALS, COLOURS], config, size=size, seed=seed)
    return [asked[position] for position in range(len(asked))]


def same(one: TrainingBatch, other: TrainingBatch) -> bool:
    return (one.texts, one.labels, one.targets.tolist()) == (other.texts, other.labels, other.targets.tolist())


def test_the_same_seed_asks_the_same_questions_whatever_was_asked_before() -> None:
    asked = BatchSampler([ANIMALS, COLOURS], CONFIG, size=60, seed=1)
    backwards = [asked[position] for position in reversed(range(60))]
    assert all(same(one, other) for one, other in zip(questions(), backwards[::-1], strict=True))
    assert not all(same(one, other) for one, other in zip(questions(), questions(seed=2), strict=True))


def test_a_label_is_true_where_the_text_says_so_and_stands_in_a_question_once() -> None:
    for question in questions():
        assert 2 <= len(question.labels) == len({label.casefold() for label in question.labels})
        assert 1 <= len(question.texts) <= 4
        expected = [[float(label in text) for label in question.labels] for text in question.texts]
        # "Cat" of the colours is no label of the animals' texts, nor the other way round.
        assert question.targets.tolist() == expected
        assert question.targets.any(axis=1).all()


def test_labels_of_other_sets_stand_among_them_as_often_as_asked() -> None:
    def foreign(share: float) -> float:
        asked = questions(SamplingConfig(texts=4, min_labels=6, max_labels=6, foreign_share=share), size=200)
        animals = [question for question in asked if question.texts[0].startswith("a ")]
        return float(np.mean([sum(label not in _KINDS for label in question.labels) for question in animals]))

    assert foreign(0.0) == 0.0
    # Of six labels a third are drawn, and of these the ones that no set names twice are there: two at most.
    assert 0.5 < foreign(1 / 3) <= 2


def test_two_texts_in_one_have_the_labels_of_both() -> None:
    for question in questions(SamplingConfig(texts=4, min_labels=3, max_labels=3, foreign_share=0, joined_share=1)):
        expected = [[float(label in text) for label in question.labels] for text in question.texts]
        assert question.targets.tolist() == expected
        assert all(text.count("a ") == 2 or text.count("red") == 2 for text in question.texts)


def test_there_must_be_something_to_learn_from() -> None:
    with pytest.raises(TrainingError, match="there is no labelled set to learn from"):
        BatchSampler([], CONFIG, size=1, seed=0)


def test_labels_in_other_words_have_the_same_answers() -> None:
    plain = questions(SamplingConfig(texts=4, min_labels=3, max_labels=3, foreign_share=0))
    asked = questions(SamplingConfig(texts=4, min_labels=3, max_labels=3, foreign_share=0, reworded_share=1))
    for question, other in zip(plain, asked, strict=True):
        assert question.texts == other.texts
        assert question.targets.tolist() == other.targets.tolist()
        assert all(one.casefold() in two.casefold() for one, two in zip(question.labels, other.labels, strict=True))
    assert len({label.replace("cat", "dog") for question in asked for label in question.labels}) > 20


@pytest.mark.parametrize(("power", "expected"), [(0.0, 1 / 2), (0.5, 2 / 3), (1.0, 4 / 5)])
def test_large_sets_are_drawn_as_much_more_often_as_asked(power: float, expected: float) -> None:
    many = ANIMALS.rows([*range(24)] * 4)
    config = SamplingConfig(texts=2, min_labels=2, max_labels=2, foreign_share=0, size_power=power)
    few = LabelledSet("few", ("red", "green"), ("it is red", "it is green") * 12, ((0,), (1,)) * 12)
    asked = BatchSampler([many, few], config, size=600, seed=1)
    drawn = [asked[position].texts[0].startswith("a ") for position in range(len(asked))]
    assert np.mean(drawn) == pytest.approx(expected, abs=0.06)
