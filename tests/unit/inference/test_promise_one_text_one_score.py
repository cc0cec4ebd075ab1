"""Promise 1: a score does not depend on the batch, its padding, the order or the other texts.

float32 and int8: within 1e-5; bfloat16: within 2e-2.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_cells import BACKBONES, Cell, cells
from reference_models import PUBLISHED, build, tokenizer

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.inference.device import native_int8
from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.results import (
    EMPTY_TEXT,
    MAX_TEXT_CHARS,
    NULL_TEXT,
    TEXT_TOO_LONG,
    UNDECODABLE_TEXT,
    FloatArray,
    Results,
    TextError,
)
from gliclass_spark.labels import LabelSet
from gliclass_spark.model.checkpoint import Checkpoint

LABELS = LabelSet.of("sport", "machine learning", "web")
# Heads over every token of the text: padding and neighbours could reach the score through them.
HEAD_OF = {"bert": "base-v3", "deberta-v2": "base-v3", "modernbert": "multilang-edge"}
HEADS = {name: PUBLISHED[head][1] for name, head in HEAD_OF.items()}
TOLERANCES = {"float32": 1e-5, "bfloat16": 2e-2}
if native_int8(torch.device("cpu")):
    TOLERANCES["int8"] = 1e-5
BUDGETS = (1, 80, 100_000)  # tokens: one text at a time, a few, all at once
MATRIX = list(cells())

WORDS = [
    "spark",
    "table",
    "deep",
    "river",
    "Zürich",
    "<<LABEL>>",
    "[SEP]",
    "\x00",
    "日本",
    "עברית",
    "🚀",
    "\ud800",
    "x" * 70,
]
ORDINARY = st.lists(st.sampled_from(WORDS[:5]), min_size=1, max_size=40).map(" ".join)
TEXTS = st.one_of(
    ORDINARY,
    ORDINARY,
    st.lists(st.sampled_from(WORDS), max_size=12).map(" ".join),
    st.text(max_size=30),
    st.sampled_from([None, "", " \n", "\ud83d", "deep water " * 400]),
)

HOSTILE: dict[str, tuple[str | None, TextError | None]] = {
    "null": (None, NULL_TEXT),
    "empty": ("", EMPTY_TEXT),
    "white space": (" \t\n\u2028\u00a0", EMPTY_TEXT),
    "a megabyte": ("deep water " * 100_000, None),
    "a word of a megabyte": ("x" * 1_000_000, None),
    "ten megabytes and a character": ("x" * (MAX_TEXT_CHARS + 1), TEXT_TOO_LONG),
    "only NUL": ("\x00" * 50, EMPTY_TEXT),
    "NUL inside": ("deep\x00 water\x00", None),
    "only characters that a tokenizer drops": ("\u200b\ufeff\u0301\x01", EMPTY_TEXT),
    "a lone surrogate": ("deep \ud800 water", UNDECODABLE_TEXT),
    "surrogates in the wrong order": ("\udc00\ud83d", UNDECODABLE_TEXT),
    "only special tokens": ("[CLS][SEP][PAD][MASK][UNK]<<LABEL>><<SEP>>", None),
    "injected labels": ("<<LABEL>>x<<SEP>>[SEP][CLS]", None),
    "a hundred injected labels": ("<<LABEL>>x" * 100 + "<<SEP>>", None),
    "right to left": ("‮שלום עולם مرحبا بالعالم", None),
    "emoji": ("🚀👩‍👩‍👧‍👦🏳️‍🌈", None),
    "scripts outside the vocabulary": ("ꙮ𒐫꧅", None),
    "stacked accents": ("e" + "\u0301" * 5000, None),
    "not a character": ("\uffff deep \ufdd0", None),
    "punctuation": ("!" * 5000, None),
}


@pytest.fixture(params=BACKBONES)
def backbone(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("precision", TOLERANCES)
def test_promise_1_any_texts_in_any_order_and_any_batches_have_their_scores_alone(
    backbone: str, precision: str, engine: Callable[..., Engine]
) -> None:
    engines = [engine(backbone, precision=precision, max_batch_tokens=budget, **HEADS[backbone]) for budget in BUDGETS]

    @settings(deadline=None, max_examples=12)
    @given(st.lists(TEXTS, min_size=1, max_size=6), st.data())
    def holds(texts: list[str | None], data: st.DataObject) -> None:
        order = data.draw(st.permutations(range(len(texts))))
        cut = data.draw(st.integers(0, len(texts)))
        expected = [engines[-1].run([text], LABELS) for text in texts]
        for part in (order[:cut], order[cut:]):
            results = data.draw(st.sampled_from(engines)).run([texts[position] for position in part], LABELS)
            for row, position in enumerate(part):
                assert_same(results, row, expected[position], TOLERANCES[precision])

    holds()


@pytest.mark.long
@settings(deadline=None, max_examples=25)
@given(st.sampled_from(MATRIX), st.lists(TEXTS, min_size=1, max_size=5), st.none() | st.integers(1, 2), st.data())
def test_a_random_model_of_any_configuration_keeps_the_promise(
    cell: Cell, texts: list[str | None], labels_per_pass: int | None, data: st.DataObject
) -> None:
    label_set = LABELS.model_copy(update={"labels_per_pass": labels_per_pass})
    model = Checkpoint(ModelRef(str(cell), Path(), ""), build(cell.backbone, **cell.changes).twin(), tokenizer())
    alone, together = (
        Engine(model, device="cpu", precision="float32", max_batch_tokens=budget)
        for budget in (1, data.draw(st.sampled_from(BUDGETS[1:])))
    )
    order = data.draw(st.permutations(range(len(texts))))
    results = together.run([texts[position] for position in order], label_set)
    for row, position in enumerate(order):
        assert_same(results, row, alone.run([texts[position]], label_set), TOLERANCES["float32"])


def assert_same(results: Results, row: int, alone: Results, tolerance: float) -> None:
    assert results.errors[row] == alone.errors[0]
    assert results.token_counts[row] == alone.token_counts[0]
    np.testing.assert_allclose(results.scores[row], alone.scores[0], atol=tolerance, rtol=0)


def test_the_compared_scores_are_neither_equal_nor_saturated(backbone: str, engine: Callable[..., Engine]) -> None:
    scores = engine(backbone, **HEADS[backbone]).scores(["spark table", "deep river " * 20, "Zürich"], LABELS)
    assert np.ptp(scores, axis=0).max() > 1e-3
    assert 0.001 < scores.min() < scores.max() < 0.999


@pytest.mark.parametrize("precision", TOLERANCES)
def test_a_text_has_its_score_among_hundreds_of_others(
    backbone: str, precision: str, engine: Callable[..., Engine]
) -> None:
    texts = [" ".join(WORDS[(start + step) % 5] for step in range(1 + start % 37)) for start in range(100)]
    measured = engine(backbone, precision=precision, **HEADS[backbone])
    alone = np.concatenate([measured.scores([text], LABELS) for text in texts[:10]])
    together = measured.scores(texts[::-1] + texts, LABELS)
    np.testing.assert_allclose(together[100:110], alone, atol=TOLERANCES[precision], rtol=0)
    np.testing.assert_allclose(together[:100], together[:99:-1], atol=TOLERANCES[precision], rtol=0)


@pytest.mark.parametrize("precision", TOLERANCES)
def test_the_embedded_model_keeps_the_promise_too(precision: str) -> None:
    texts = [" ".join(WORDS[(start + step) % 5] for step in range(1 + 5 * start)) for start in range(10)]
    embedded = Engine.from_pretrained("embedded", device="cpu", precision=precision, max_batch_tokens=10_000)
    alone = np.concatenate([embedded.scores([text], LABELS) for text in texts])
    np.testing.assert_allclose(embedded.scores(texts, LABELS), alone, atol=TOLERANCES[precision], rtol=0)


@pytest.mark.parametrize("precision", TOLERANCES)
def test_a_label_cached_model_keeps_the_promise_too(precision: str, tiny_label_cached_model: str) -> None:
    engines = [
        Engine.from_pretrained(tiny_label_cached_model, device="cpu", precision=precision, max_batch_tokens=budget)
        for budget in BUDGETS
    ]

    @settings(deadline=None, max_examples=12)
    @given(st.lists(TEXTS, min_size=1, max_size=6), st.data())
    def holds(texts: list[str | None], data: st.DataObject) -> None:
        order = data.draw(st.permutations(range(len(texts))))
        expected = [engines[-1].run([text], LABELS) for text in texts]
        results = data.draw(st.sampled_from(engines)).run([texts[position] for position in order], LABELS)
        for row, position in enumerate(order):
            assert_same(results, row, expected[position], TOLERANCES[precision])

    holds()


@pytest.mark.parametrize("precision", TOLERANCES)
def test_hostile_texts_change_no_other_scores_and_get_a_score_or_an_error(
    backbone: str, precision: str, engine: Callable[..., Engine]
) -> None:
    attacked = engine(backbone, precision=precision, **HEADS[backbone])
    peaceful = ["spark table", "deep river " * 30]
    label_set = LABELS.model_copy(update={"long_texts": "cut"})  # the next test scores a megabyte in all its windows
    before = attacked.scores(peaceful, label_set)
    results = attacked.run([peaceful[0], *(text for text, _ in HOSTILE.values()), peaceful[1]], label_set)
    np.testing.assert_allclose(results.scores[[0, -1]], before, atol=TOLERANCES[precision], rtol=0)
    for name, row in zip(HOSTILE, range(1, len(HOSTILE) + 1), strict=True):
        error = HOSTILE[name][1]
        assert results.errors[row] == error, name
        assert np.isnan(results.scores[row]).all() if error else scored(results.scores[row]), name


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_alone_between_two_others_changes_neither_and_has_its_own_result(
    name: str, engine: Callable[..., Engine]
) -> None:
    attacked = engine("bert", **HEADS["bert"])
    text, error = HOSTILE[name]
    peaceful = ["spark table", "deep river " * 30]
    results = attacked.run([peaceful[0], text, peaceful[1]], LABELS)
    np.testing.assert_allclose(results.scores[[0, 2]], attacked.scores(peaceful, LABELS), atol=1e-5, rtol=0)
    assert results.errors == (None, error, None)
    assert_same(results, 1, attacked.run([text], LABELS), 1e-5)


def scored(row: FloatArray) -> bool:
    return bool(((row >= 0) & (row <= 1)).all())


def test_segment_embeddings_work_in_both_precisions(backbone: str, engine: Callable[..., Engine]) -> None:
    texts = ["spark table", "deep river " * 20, "Zürich"]
    exact, rounded = (
        engine(backbone, precision=precision, **PUBLISHED["instruct-edge"][1]).scores(texts, LABELS)
        for precision in ("float32", "bfloat16")
    )
    np.testing.assert_allclose(rounded, exact, atol=TOLERANCES["bfloat16"], rtol=0)
