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
    LabelSet.of("sport", "web").replace(prompt="Find the topic: "),
    LabelSet.of(*(f"label {number}" for number in range(200))),
]


@pytest.fixture(params=["uni-encoder", "texts attend to labels", "labels in the score"])
def own_engine(
    request: pytest.FixtureRequest, engine: Callable[..., Engine], tiny_label_cached_model: str, tiny_bi_encoder: str
) -> Engine:
    if request.param == "uni-encoder":
        return engine("bert", **PUBLISHED["base-v3"][1])
    folder = tiny_label_cached_model if request.param == "texts attend to labels" else tiny_bi_encoder
    return Engine.from_pretrained(folder, device="cpu", precision="float32")


def test_each_text_has_the_scores_that_it_has_alone(own_engine: Engine) -> None:
    records = own_engine.classify_each(TEXTS, SETS)
    for text, label_set, record in zip(TEXTS, SETS, records, strict=True):
        [alone] = own_engine.classify([text], label_set)
        assert_same(record, alone)


def test_names_are_labels_too(own_engine: Engine) -> None:
    [record] = own_engine.classify_each(["deep water"], [["sport", "web"]])
    assert_same(record, own_engine.classify(["deep water"], ["sport", "web"])[0])


@pytest.mark.parametrize(
    ("labels", "message"),
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
def test_invalid_labels_are_an_error_of_their_text_alone(
    labels: object, message: str, engine: Callable[..., Engine]
) -> None:
    bert = engine("bert", **PUBLISHED["base-v3"][1])
    before, bad, after = bert.classify_each(["spark", "deep water", "table"], [["web"], labels, ["web"]])  # type: ignore[list-item]
    assert bad.error is not None
    assert bad.error.code == "bad_labels"
    assert message in bad.error.message
    assert (bad.labels, bad.scores, bad.chunk_count) == ((), {}, 0)
    for text, record in (("spark", before), ("table", after)):
        assert_same(record, bert.classify([text], ["web"])[0])


def test_a_bad_text_keeps_its_own_error(own_engine: Engine) -> None:
    assert [record.error and record.error.code for record in own_engine.classify_each([None, " "], [["a"], ["b"]])] == [
        "null_text",
        "empty_text",
    ]


def test_texts_and_label_sets_of_different_counts_are_refused(own_engine: Engine) -> None:
    with pytest.raises(ValueError, match="shorter"):
        own_engine.classify_each(["deep water", "spark"], [["a"]])


def test_a_stream_yields_a_result_for_each_text(own_engine: Engine) -> None:
    batches = [(TEXTS[:2], SETS[:2]), ([], []), (TEXTS[2:], SETS[2:])]
    streamed = [result.classification for results in own_engine.stream_each(batches) for result in results]
    for record, expected in zip(streamed, own_engine.classify_each(TEXTS, SETS), strict=True):
        assert_same(record, expected)


def test_examples_are_refused_by_a_model_that_was_not_trained_on_them(own_engine: Engine) -> None:
    example = Example(text="a goal in the last minute", labels=("sport",))
    with pytest.raises(LabelSetError, match="examples"):
        own_engine.run(TEXTS, LabelSet.of("sport", "web").replace(examples=[example]))


def assert_same(record: Classification, expected: Classification) -> None:
    assert (record.error, record.token_count, record.chunk_count) == (
        expected.error,
        expected.token_count,
        expected.chunk_count,
    )
    assert list(record.scores) == list(expected.scores)
    np.testing.assert_allclose(list(record.scores.values()), list(expected.scores.values()), atol=1e-5)
