"""More labels than fit beside a text are asked in fixed groups; every label gets its score."""

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

BUILDERS = {first: UniEncoderTokenizer(tokenizer(), prompt_first=first, max_length=512) for first in (True, False)}
TEXTS = ["deep water", "a river in Zürich", "spark " * 700]


@pytest.fixture
def bert(engine: Callable[..., Engine]) -> Engine:
    return engine("bert", **PUBLISHED["base-v3"][1])


def numbered(count: int, **fields: object) -> LabelSet:
    return LabelSet.of(*(f"label {number}" for number in range(count))).model_copy(update=fields)


def groups(label_set: LabelSet, *, prompt_first: bool = True) -> list[range]:
    return [frame.labels for frame in BUILDERS[prompt_first].prompt(label_set).frames]


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 700), st.none() | st.integers(1, 800), st.booleans())
def test_groups_are_neighbours_of_one_size_but_for_a_label_and_leave_the_text_its_room(
    count: int, at_once: int | None, prompt_first: bool
) -> None:
    label_set = numbered(count, labels_per_pass=at_once)
    prompt = BUILDERS[prompt_first].prompt(label_set)
    found = [frame.labels for frame in prompt.frames]
    assert [place for group in found for place in group] == list(range(count))
    assert max(map(len, found)) - min(map(len, found)) <= 1
    assert max(map(len, found)) <= (at_once or count)
    assert all(frame.label_texts == label_set.texts[frame.labels.start : frame.labels.stop] for frame in prompt.frames)
    assert prompt.max_text_tokens == 512 - max(map(len, prompt.frames))
    # Beside all labels a quarter of the window is the text's; beside groups half, less [CLS], <<SEP>> and [SEP].
    assert prompt.max_text_tokens >= (128 if len(found) == 1 else 255)


def test_as_few_groups_as_possible() -> None:
    # 382 tokens are for labels: [CLS], <<SEP>> and [SEP] aside, and 128 for the text. A label takes 3.
    assert groups(numbered(127)) == [range(127)]
    assert groups(numbered(128)) == [range(64), range(64, 128)]
    assert groups(numbered(10, labels_per_pass=4)) == [range(3), range(3, 6), range(6, 10)]


def test_each_group_scores_as_if_it_were_asked_alone(bert: Engine) -> None:
    label_set = numbered(10, labels_per_pass=4)
    found = bert.run(TEXTS, label_set)
    for group in groups(label_set):
        alone = bert.logits(TEXTS, [label_set.names[place] for place in group])
        np.testing.assert_allclose(found.logits[:, group.start : group.stop], alone, atol=1e-5)
    assert found.chunk_counts.tolist() == [1, 1, 2]


def test_the_scores_of_a_set_with_one_answer_sum_to_one_over_all_groups(bert: Engine) -> None:
    scores = bert.scores(TEXTS, numbered(300, multi_label=False))
    assert scores.shape == (3, 300)
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-6)


@pytest.mark.parametrize("text_tokens", [2, 200])
def test_a_thousand_labels_cost_their_groups(text_tokens: int, bert: Engine) -> None:
    label_set = numbered(1000)
    found = bert.run(["deep water " * (text_tokens // 2)], label_set)
    labels = sum(len(tokenizer().tokenize(f"<<LABEL>>label {number}")) for number in range(1000))
    assert len(groups(label_set)) == 16
    # Each label once; [CLS], <<SEP>>, [SEP] and the text beside each group.
    assert found.usage.tokens == labels + 16 * (3 + text_tokens)
    assert found.chunk_counts.tolist() == [1]
    assert np.isfinite(found.logits).all()


def test_a_text_that_the_device_has_no_memory_for_beside_one_group_is_one_error(
    engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    cramped = engine("bert", max_batch_tokens=1)
    attempt = cramped._attempt

    def fails_beside_the_last_group(inputs: list, tokens: int) -> object:
        return None if any(9 in each.frame.labels for each in inputs) else attempt(inputs, tokens)

    monkeypatch.setattr(cramped, "_attempt", fails_beside_the_last_group)
    found = cramped.run(["deep water"], numbered(10, labels_per_pass=4))
    assert [error and error.code for error in found.errors] == ["out_of_memory"]
    assert np.isnan(found.logits).all()


def test_a_model_that_remembers_its_labels_needs_no_groups(tiny_label_cached_model: str) -> None:
    remembering = Engine.from_pretrained(tiny_label_cached_model, device="cpu", precision="float32")
    together = remembering.logits(TEXTS, numbered(10))
    np.testing.assert_array_equal(together, remembering.logits(TEXTS, numbered(10, labels_per_pass=4)))
