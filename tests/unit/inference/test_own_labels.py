"""A label set for each text: labels, prompt and examples of its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from reference_models import PUBLISHED

from gliclass_spark.errors import LabelSetError
from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.results import Classification
from gliclass_spark.labels import Example, LabelSet

TEXTS = ["deep water", "spark", "a river in Zürich", "deep water", "table " * 700]
SETS = [
    LabelSet.of("sport", "web"),
    LabelSet.of("machine learning"),
    LabelSet.of("web", "sport", "river", multi_label=False),
    LabelSet.of("sport", "web").asking(prompt="Find the topic: "),
    LabelSet.of(*(f"label {number}" for number in range(200))),
]


@pytest.fixture(params=["joint", "texts read labels", "labels in the score"])
def asked(
    request: pytest.FixtureRequest, engine: Callable[..., Engine], tiny_label_cached_model: str, tiny_bi_encoder: str
) -> Engine:
    if request.param == "joint":
        return engine("bert", **PUBLISHED["base-v3"][1])
    folder = tiny_label_cached_model if request.param == "texts read labels" else tiny_bi_encoder
    return Engine.from_pretrained(folder, device="cpu", precision="float32")


def test_each_text_is_answered_as_if_it_were_asked_alone(asked: Engine) -> None:
    found = asked.classify_each(TEXTS, SETS)
    for text, label_set, record in zip(TEXTS, SETS, found, strict=True):
        [alone] = asked.classify([text], label_set)
        same(record, alone)


def test_names_are_labels_too(asked: Engine) -> None:
    [found] = asked.classify_each(["deep water"], [["sport", "web"]])
    same(found, asked.classify(["deep water"], ["sport", "web"])[0])


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (None, "holds no label"),
        ([], "holds no label"),
        (["a", "a"], "appears twice"),
        (["<<LABEL>>"], "control token"),
        (["a", None], "a valid"),
        ("spam", "must be a list"),
    ],
    ids=str,
)
def test_labels_that_cannot_be_asked_are_an_error_of_their_text_alone(
    labels: object, said: str, engine: Callable[..., Engine]
) -> None:
    bert = engine("bert", **PUBLISHED["base-v3"][1])
    before, bad, behind = bert.classify_each(["spark", "deep water", "table"], [["web"], labels, ["web"]])  # type: ignore[list-item]
    assert bad.error is not None
    assert bad.error.code == "bad_labels"
    assert said in bad.error.message
    assert (bad.labels, bad.scores, bad.chunk_count) == ((), {}, 0)
    for text, record in (("spark", before), ("table", behind)):
        same(record, bert.classify([text], ["web"])[0])


def test_a_bad_text_keeps_its_own_error(asked: Engine) -> None:
    assert [found.error and found.error.code for found in asked.classify_each([None, " "], [["a"], ["b"]])] == [
        "null_text",
        "empty_text",
    ]


def test_texts_and_label_sets_of_different_number_are_refused(asked: Engine) -> None:
    with pytest.raises(ValueError, match="shorter"):
        asked.classify_each(["deep water", "spark"], [["a"]])


def test_a_stream_gives_an_answer_for_each_text(asked: Engine) -> None:
    batches = [(TEXTS[:2], SETS[:2]), ([], []), (TEXTS[2:], SETS[2:])]
    streamed = [given.classification for answers in asked.stream_each(batches) for given in answers]
    for found, expected in zip(streamed, asked.classify_each(TEXTS, SETS), strict=True):
        same(found, expected)


def test_examples_are_not_read_by_a_model_that_was_not_trained_on_them(asked: Engine) -> None:
    example = Example(text="a goal in the last minute", labels=("sport",))
    with pytest.raises(LabelSetError, match="examples"):
        asked.run(TEXTS, LabelSet.of("sport", "web").asking(examples=[example]))


def same(found: Classification, expected: Classification) -> None:
    assert (found.error, found.token_count, found.chunk_count) == (
        expected.error,
        expected.token_count,
        expected.chunk_count,
    )
    assert list(found.scores) == list(expected.scores)
    np.testing.assert_allclose(list(found.scores.values()), list(expected.scores.values()), atol=1e-5)
