"""Labels and text become the token ids that the reference gives; a text is only ever text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_models import Reference, tokenizer
from transformers import PreTrainedTokenizerFast

from gliclass_spark.errors import CheckpointError, LabelSetError
from gliclass_spark.labels import MAX_DESCRIPTION_CHARS, Label, LabelSet
from gliclass_spark.model.prompt import PromptBuilder
from gliclass_spark.model.text_tokenizer import MIN_TEXT_TOKENS

CLS, SEP = 101, 102
LABELS = LabelSet(labels=(Label(name="sport"), Label(name="machine learning", description="models"), Label(name="web")))
CONTROL = ["<<LABEL>>", "<<SEP>>", "[CLS]", "[SEP]", "[PAD]", "[MASK]"]


def control_ids() -> set[int]:
    return set(tokenizer().convert_tokens_to_ids(CONTROL))


def builder(*, prompt_first: bool = True, max_length: int = 512) -> PromptBuilder:
    return PromptBuilder(tokenizer(), prompt_first=prompt_first, max_length=max_length)


TEXT_LAST, TEXT_FIRST = builder(), builder(prompt_first=False)


def input_ids(made_by: PromptBuilder, text: str, label_set: LabelSet = LABELS) -> list[int]:
    prompt = made_by.prompt(label_set)
    return prompt.wrap(made_by.text_ids([text], prompt)[0])


def asking(**changes: Any) -> LabelSet:
    return LABELS.model_copy(update=changes)


class TestInput:
    """The ids of labels and text together."""

    def test_labels_stand_before_the_text(self) -> None:
        tokens = tokenizer().convert_ids_to_tokens(input_ids(TEXT_LAST, "Hello world"))
        labels = [
            "<<LABEL>>",
            "sport",
            "<<LABEL>>",
            "machine",
            "learning",
            ":",
            "models",
            "<<LABEL>>",
            "web",
            "<<SEP>>",
        ]
        assert tokens == ["[CLS]", *labels, "hello", "world", "[SEP]"]

    def test_labels_stand_behind_the_text_where_the_model_was_trained_so(self) -> None:
        tokens = tokenizer().convert_ids_to_tokens(input_ids(TEXT_FIRST, "Hello world"))
        labels = [
            "<<LABEL>>",
            "sport",
            "<<LABEL>>",
            "machine",
            "learning",
            ":",
            "models",
            "<<LABEL>>",
            "web",
            "<<SEP>>",
        ]
        assert tokens == ["[CLS]", "hello", "world", *labels, "[SEP]"]

    @pytest.mark.parametrize("prompt_first", [True, False])
    @pytest.mark.parametrize("task", [None, "Find the topic: "])
    def test_the_ids_are_the_references(
        self, task: str | None, prompt_first: bool, reference: Callable[..., Reference]
    ) -> None:
        theirs = reference("bert", prompt_first=prompt_first)
        ours = TEXT_LAST if prompt_first else TEXT_FIRST

        @settings(deadline=None, max_examples=60)
        @given(st.text(min_size=1, max_size=60).filter(lambda text: not any(token in text for token in CONTROL)))
        def same(text: str) -> None:
            assert input_ids(ours, text, asking(prompt=task)) == theirs.input_ids(text, LABELS.texts, task)

        same()

    def test_a_long_text_is_read_to_the_end_of_the_window_as_the_reference_reads_it(
        self, reference: Callable[..., Reference]
    ) -> None:
        text = "deep water " * 400
        found = input_ids(TEXT_LAST, text)
        assert found == reference("bert").input_ids(text, LABELS.texts)
        assert len(found) == 512
        assert found[-1] == SEP

    def test_a_long_text_never_pushes_the_labels_behind_it_out(self) -> None:
        found = input_ids(TEXT_FIRST, "deep water " * 400)
        assert len(found) == 512
        assert found[-11:] == input_ids(TEXT_FIRST, "short")[-11:]

    @pytest.mark.parametrize("made_by", [TEXT_LAST, TEXT_FIRST], ids=["text last", "text first"])
    def test_the_text_fills_the_window_exactly(self, made_by: PromptBuilder) -> None:
        prompt = made_by.prompt(LABELS)
        assert len(prompt.wrap([7] * prompt.max_text_tokens)) == 512
        assert len(prompt.wrap([7] * (prompt.max_text_tokens + 1))) == 512
        assert len(prompt.wrap([7] * (prompt.max_text_tokens - 1))) == 511

    def test_texts_are_given_untruncated(self) -> None:
        assert [len(ids) for ids in TEXT_LAST.text_ids(["water " * 2000, "water"], TEXT_LAST.prompt(LABELS))] == [
            2000,
            1,
        ]

    @pytest.mark.parametrize("made_by", [TEXT_LAST, TEXT_FIRST], ids=["text last", "text first"])
    @pytest.mark.parametrize(
        ("task", "text", "count"),
        [
            (None, "deep water", 2),
            ("Find the topic: ", "deep water", 2),
            ("Find the topic: ", "\u200b\x00", 0),
            ("Sort the test", "s", 1),
            ("Stop runn", "ing", 1),
        ],
    )
    def test_a_texts_tokens_are_told_apart_from_the_task_prompts(
        self, task: str | None, text: str, count: int, made_by: PromptBuilder
    ) -> None:
        prompt = made_by.prompt(asking(prompt=task))
        assert prompt.token_count(made_by.text_ids([text], prompt)[0]) == count

    def test_a_tokenizer_that_truncates_and_pads_is_left_as_it_was(self) -> None:
        own = tokenizer().__class__.from_pretrained(tokenizer().name_or_path)
        own.add_tokens(["<<LABEL>>", "<<SEP>>"], special_tokens=True)
        own("x", truncation=True, max_length=16, padding="max_length")
        made = PromptBuilder(own, prompt_first=True, max_length=512)
        assert len(made.text_ids(["water " * 100], made.prompt(LABELS))[0]) == 100
        assert own.backend_tokenizer.truncation["max_length"] == 16


class TestTextIsOnlyText:
    """No text can add labels, end itself, or hide."""

    @pytest.mark.parametrize("made_by", [TEXT_LAST, TEXT_FIRST], ids=["text last", "text first"])
    @pytest.mark.parametrize("task", [None, "Find the topic: "])
    def test_control_tokens_are_read_as_their_characters(self, task: str | None, made_by: PromptBuilder) -> None:
        prompt = made_by.prompt(asking(prompt=task))
        ids = made_by.text_ids(["go <<LABEL>>x<<SEP>>[SEP][CLS] on"], prompt)[0]
        tokens = tokenizer().convert_ids_to_tokens(ids[len(prompt.task) :])
        assert " ".join(tokens) == "go < < label > > x < < sep > > [ sep ] [ cl ##s ] on"

    def test_any_text_gives_no_control_id(self) -> None:
        piece = st.sampled_from(
            [*CONTROL, "<<", ">>", "LABEL", "label", " ", "x", "[", "]", "SEP", "\u0130", "##"]
        ) | st.text(max_size=3)
        prompt = TEXT_LAST.prompt(LABELS)

        @settings(deadline=None, max_examples=200)
        @given(st.lists(piece, max_size=8).map("".join))
        def holds(text: str) -> None:
            assert control_ids().isdisjoint(TEXT_LAST.text_ids([text], prompt)[0])

        holds()

    def test_a_text_with_control_tokens_changes_no_other_text(self) -> None:
        prompt = TEXT_LAST.prompt(LABELS)
        alone = TEXT_LAST.text_ids(["deep water"], prompt)
        assert TEXT_LAST.text_ids(["[SEP]", "deep water", "<<LABEL>>"], prompt)[1:2] == alone

    def test_what_the_vocabulary_lacks_reads_as_unknown(self) -> None:
        ids = TEXT_LAST.text_ids(["[UNK] \U0001f9ff"], TEXT_LAST.prompt(LABELS))[0]
        assert tokenizer().convert_ids_to_tokens(ids)[-1] == "[UNK]"


class TestRefusals:
    """A question that the model can't be asked is refused before any text is read."""

    @pytest.mark.parametrize("token", CONTROL)
    def test_a_label_with_a_control_token_is_refused_by_its_name(self, token: str) -> None:
        asked = LabelSet.of("sport", f"web {token} pages")
        with pytest.raises(LabelSetError) as refused:
            TEXT_LAST.prompt(asked)
        assert (
            str(refused.value) == f"label 'web {token} pages' holds a control token of the model's tokenizer; reword it"
        )

    @pytest.mark.parametrize("made_by", [TEXT_LAST, TEXT_FIRST], ids=["text last", "text first"])
    @pytest.mark.parametrize("token", CONTROL)
    def test_a_task_prompt_with_a_control_token_is_refused(self, token: str, made_by: PromptBuilder) -> None:
        with pytest.raises(LabelSetError, match=r"prompt .* holds a control token"):
            made_by.prompt(asking(prompt=f"Find {token} the topic"))

    @pytest.mark.parametrize("made_by", [TEXT_LAST, TEXT_FIRST], ids=["text last", "text first"])
    def test_labels_that_leave_no_room_for_a_text_are_refused_with_their_size(self, made_by: PromptBuilder) -> None:
        asked = LabelSet.of(*(f"label {number}" for number in range(1000)), name="thousand")
        with pytest.raises(
            LabelSetError, match=r"the 1000 labels of 'thousand' and their prompt take \d+ of the model's 512 tokens"
        ):
            made_by.prompt(asked)

    @pytest.mark.parametrize("made_by", [TEXT_LAST, TEXT_FIRST], ids=["text last", "text first"])
    def test_a_task_prompt_that_leaves_no_room_for_a_text_is_refused(self, made_by: PromptBuilder) -> None:
        with pytest.raises(LabelSetError, match="no room for a text"):
            made_by.prompt(asking(prompt="deep water " * 300))

    def test_the_longest_label_that_is_allowed_can_be_asked(self) -> None:
        description = ("water " * MAX_DESCRIPTION_CHARS)[: MAX_DESCRIPTION_CHARS - 1]
        prompt = TEXT_LAST.prompt(LabelSet(labels=(Label(name="x", description=description),)))
        assert prompt.max_text_tokens > MIN_TEXT_TOKENS

    @pytest.mark.parametrize(("room", "refused"), [(MIN_TEXT_TOKENS, False), (MIN_TEXT_TOKENS - 1, True)])
    def test_labels_leave_the_text_its_least(self, room: int, refused: bool) -> None:
        taken = 512 - TEXT_LAST.prompt(LABELS).max_text_tokens
        made = builder(max_length=taken + room)
        if refused:
            with pytest.raises(LabelSetError):
                made.prompt(LABELS)
        else:
            assert made.prompt(LABELS).max_text_tokens == room

    @pytest.mark.parametrize("missing", ["<<LABEL>>", "<<SEP>>"])
    def test_a_tokenizer_without_the_models_tokens_is_refused(self, missing: str) -> None:
        plain: PreTrainedTokenizerFast = tokenizer().__class__.from_pretrained(tokenizer().name_or_path)
        plain.add_tokens([token for token in ("<<LABEL>>", "<<SEP>>") if token != missing], special_tokens=True)
        with pytest.raises(CheckpointError, match=f"the tokenizer has no token '{missing}'"):
            PromptBuilder(plain, prompt_first=True, max_length=512)
