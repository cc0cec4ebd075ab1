"""More labels than fit beside a text are scored in fixed groups; every label gets its score."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_models import PUBLISHED, tokenizer

from gliclass_spark.inference.engine import Engine
from gliclass_spark.labels import LabelSet
from gliclass_spark.model.prompts.uni_encoder_tokenizer import UniEncoderTokenizer

TOKENIZERS = {first: UniEncoderTokenizer(tokenizer(), prompt_first=first, max_length=512) for first in (True, False)}
TEXTS = ["deep water", "a river in Zürich", "spark " * 700]


@pytest.fixture
def bert(engine: Callable[..., Engine]) -> Engine:
    return engine("bert", **PUBLISHED["base-v3"][1])


def numbered(count: int, **fields: object) -> LabelSet:
    return LabelSet.of(*(f"label {number}" for number in range(count))).model_copy(update=fields)


def groups(label_set: LabelSet, *, prompt_first: bool = True) -> list[range]:
    return [frame.labels for frame in TOKENIZERS[prompt_first].prompt(label_set).frames]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 700), st.none() | st.integers(1, 800), st.booleans())
def test_groups_are_consecutive_labels_of_sizes_that_differ_by_one_at_most_and_leave_room_for_the_text(
    count: int, at_once: int | None, prompt_first: bool
) -> None:
    label_set = numbered(count, labels_per_pass=at_once)
    prompt = TOKENIZERS[prompt_first].prompt(label_set)
    label_groups = [frame.labels for frame in prompt.frames]
    assert [index for group in label_groups for index in group] == list(range(count))
    assert max(map(len, label_groups)) - min(map(len, label_groups)) <= 1
    assert max(map(len, label_groups)) <= (at_once or count)
    assert all(frame.label_texts == label_set.texts[frame.labels.start : frame.labels.stop] for frame in prompt.frames)
    assert prompt.max_text_tokens == 512 - max(map(len, prompt.frames))
    # Beside all labels a quarter of the window is the text's; beside groups half, less [CLS], <<SEP>> and [SEP].
    assert prompt.max_text_tokens >= (128 if len(label_groups) == 1 else 255)


def test_as_few_groups_as_possible() -> None:
    # 382 tokens are for labels: [CLS], <<SEP>> and [SEP] aside, and 128 for the text. A label takes 3.
    assert groups(numbered(127)) == [range(127)]
    assert groups(numbered(128)) == [range(64), range(64, 128)]
    assert groups(numbered(10, labels_per_pass=4)) == [range(3), range(3, 6), range(6, 10)]


def test_each_group_has_the_scores_that_it_has_alone(bert: Engine) -> None:
    label_set = numbered(10, labels_per_pass=4)
    results = bert.run(TEXTS, label_set)
    for group in groups(label_set):
        alone = bert.logits(TEXTS, [label_set.names[index] for index in group])
        np.testing.assert_allclose(results.logits[:, group.start : group.stop], alone, atol=1e-5)
    assert results.chunk_counts.tolist() == [1, 1, 2]


def test_the_scores_of_a_single_label_set_sum_to_one_over_all_groups(bert: Engine) -> None:
    scores = bert.scores(TEXTS, numbered(300, multi_label=False))
    assert scores.shape == (3, 300)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("text_tokens", [2, 200])
def test_a_thousand_labels_cost_their_groups(text_tokens: int, bert: Engine) -> None:
    label_set = numbered(1000)
    results = bert.run(["deep water " * (text_tokens // 2)], label_set)
    labels = sum(len(tokenizer().tokenize(f"<<LABEL>>label {number}")) for number in range(1000))
    assert len(groups(label_set)) == 16
    # Each label once; [CLS], <<SEP>>, [SEP] and the text beside each group.
    assert results.usage.tokens == labels + 16 * (3 + text_tokens)
    assert results.chunk_counts.tolist() == [1]
    assert np.isfinite(results.logits).all()


def test_a_text_that_runs_out_of_memory_in_one_group_is_one_error(
    engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    cramped = engine("bert", max_batch_tokens=1)
    forward = cramped._batches._try_forward

    def fails_beside_the_last_group(inputs: list, tokens: int) -> object:
        return None if any(9 in model_input.frame.labels for model_input in inputs) else forward(inputs, tokens)

    monkeypatch.setattr(cramped._batches, "_try_forward", fails_beside_the_last_group)
    results = cramped.run(["deep water"], numbered(10, labels_per_pass=4))
    assert [error and error.code for error in results.errors] == ["out_of_memory"]
    assert np.isnan(results.logits).all()


def test_a_label_cached_model_needs_no_groups(tiny_label_cached_model: str) -> None:
    engine = Engine.from_pretrained(tiny_label_cached_model, device="cpu", precision="float32")
    together = engine.logits(TEXTS, numbered(10))
    np.testing.assert_array_equal(together, engine.logits(TEXTS, numbered(10, labels_per_pass=4)))
