"""A text longer than the window is scored in overlapping windows, aggregated as its label set says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_models import PUBLISHED

from gliclass_spark.inference.engine import Engine
from gliclass_spark.labels import LabelSet
from gliclass_spark.model.prompts.prompt import Frame, Prompt

LABELS = LabelSet.of("sport", "machine learning", "web")
WORDS = ["spark", "table", "deep", "river", "water"]  # one token each
TASK = (1, 2, 3)


def label_set_with(**changes: object) -> LabelSet:
    return LABELS.model_copy(update=changes)


def prompt(room: int, task: tuple[int, ...] = (), label_set: LabelSet = LABELS) -> Prompt:
    return Prompt(label_set, (Frame((), (), range(3), label_set.texts),), "", task, room)


@pytest.fixture
def bert(engine: Callable[..., Engine]) -> Engine:
    return engine("bert", **PUBLISHED["base-v3"][1])


@given(st.integers(1, 5000), st.integers(16, 600), st.sampled_from([(), TASK]))
def test_windows_hold_every_token_in_its_order_and_share_some_with_their_neighbours(
    length: int, room: int, task: tuple[int, ...]
) -> None:
    text = list(range(100, 100 + length))
    windows = prompt(room, task).windows([*task, *text])
    own = [list(window[len(task) :]) for window in windows]
    assert all(tuple(window[: len(task)]) == task for window in windows)
    assert all(len(window) <= room for window in windows)
    assert len({len(window) for window in windows}) == 1
    assert own[0][0] == text[0]
    assert own[-1][-1] == text[-1]
    for before, after in pairwise(own):
        assert after == list(range(after[0], after[0] + len(after)))
        assert before[-1] - after[0] + 1 >= min(64, (room - len(task)) // 4)
    assert len(windows) == 1 or len(task) + length > room


def test_a_text_that_fits_exactly_is_one_window_and_one_token_more_two() -> None:
    assert [len(window) for window in prompt(100).windows(range(100))] == [100]
    assert [len(window) for window in prompt(100).windows(range(101))] == [63, 63]


def test_a_text_is_cut_only_on_request() -> None:
    assert prompt(100, label_set=label_set_with(long_texts="cut")).windows(range(1000)) == [range(100)]
    assert {token for window in prompt(100).windows(range(1000)) for token in window} == set(range(1000))


@given(st.integers(1, 5000), st.integers(16, 600), st.sampled_from([(), TASK]))
def test_the_windows_shares_of_the_text_sum_to_one(length: int, room: int, task: tuple[int, ...]) -> None:
    text = range(100, 100 + length)
    label_set = prompt(room, task)
    own = [window[len(task) :] for window in label_set.windows([*task, *text])]
    window_counts = Counter(token for window in own for token in window)
    shares = label_set.window_shares(length)
    assert sum(shares) == pytest.approx(1)
    assert shares == pytest.approx([sum(1 / window_counts[token] for token in window) / length for window in own])


def test_a_token_in_two_windows_counts_half_in_each() -> None:
    # The outer ones share 26 with the one between them.
    assert [len(window) for window in prompt(100).windows(range(200))] == [84, 84, 84]
    outer, middle = 84 - 26 / 2, 84 - 26
    assert prompt(100).window_shares(200) == pytest.approx([outer / 200, middle / 200, outer / 200])
    assert prompt(100).window_shares(100) == [1.0]


def by_tokens(windows: np.ndarray, axis: int) -> np.ndarray:
    """Of three windows of 376 tokens, in a text of 1,000, that share 64 with each neighbour."""
    return np.average(windows, axis=axis, weights=[344, 312, 344])


@pytest.mark.parametrize(("rule", "aggregate"), [("max", np.max), ("mean", np.mean), ("token_mean", by_tokens)])
def test_the_logits_of_the_windows_are_aggregated_as_the_label_set_says(
    rule: str, aggregate: Callable[..., np.ndarray], bert: Engine
) -> None:
    words = [WORDS[index * index % 5] for index in range(1000)]
    results = bert.run([" ".join(words)], label_set_with(long_texts=rule))
    room = 512 - 10
    count = -(-(1000 - 64) // (room - 64))
    size = -(-(1000 + (count - 1) * 64) // count)
    starts = [index * (1000 - size) // (count - 1) for index in range(count)]
    windows = bert.logits([" ".join(words[start : start + size]) for start in starts], LABELS)
    assert np.ptp(windows, axis=0).min() > 1e-4, "equal windows would pass with any rule"
    np.testing.assert_allclose(results.logits[0], aggregate(windows, axis=0), atol=1e-5)
    assert results.chunk_counts.tolist() == [count]
    assert results.token_counts.tolist() == [1000]


def test_the_default_rule_is_the_mean(bert: Engine) -> None:
    texts = [" ".join(WORDS * 200), "deep water"]
    np.testing.assert_array_equal(bert.logits(texts, LABELS), bert.logits(texts, label_set_with(long_texts="mean")))


def test_the_end_of_a_long_text_changes_its_scores(bert: Engine) -> None:
    text = "water " * 2000
    assert not np.allclose(bert.logits([text], LABELS), bert.logits([text + "spark table " * 100], LABELS), atol=1e-4)


def test_the_task_prompt_precedes_every_window(bert: Engine) -> None:
    label_set = label_set_with(prompt="Find the topic: ", long_texts="mean")
    text = "deep water " * 300
    results = bert.run([text], label_set)
    [count] = results.chunk_counts.tolist()
    size = -(-(600 + (count - 1) * 64) // count)
    # All windows hold the same text: their mean equals each of them.
    alone = bert.logits(["deep water " * (size // 2)], label_set)
    assert size % 2 == 0
    np.testing.assert_allclose(results.logits, alone, atol=1e-5)


def test_promise_1_a_long_text_has_its_score_in_any_batch(engine: Callable[..., Engine]) -> None:
    engines = [engine("bert", max_batch_tokens=budget, **PUBLISHED["base-v3"][1]) for budget in (1, 2000, 100_000)]
    texts = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map(lambda words: " ".join(words * 300))

    @settings(deadline=None, max_examples=8)
    @given(st.lists(texts | st.sampled_from(["spark", None]), min_size=1, max_size=4), st.data())
    def holds(batch: list[str | None], data: st.DataObject) -> None:
        together = data.draw(st.sampled_from(engines)).run(batch, LABELS)
        for row, text in enumerate(batch):
            alone = engines[-1].run([text], LABELS)
            assert together.chunk_counts[row] == alone.chunk_counts[0]
            np.testing.assert_allclose(together.scores[row], alone.scores[0], atol=1e-5)

    holds()


def test_a_label_cached_model_scores_long_texts_in_windows_too(tiny_label_cached_model: str) -> None:
    engine = Engine.from_pretrained(tiny_label_cached_model, device="cpu", precision="float32")
    results = engine.run(["deep water " * 400, "deep"], LABELS)
    assert results.chunk_counts.tolist() == [2, 1]
    assert results.token_counts.tolist() == [800, 1]
