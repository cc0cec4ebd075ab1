"""Retrieved examples: the string that models of retrieval-augmented classification were trained to read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from gliclass.utils import retrieval_augmented_text
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from gliclass_spark.labels import RetrievedExample, retrieval_pieces, retrieval_text

if TYPE_CHECKING:
    from reference_models import Reference

    from gliclass_spark import Engine

TOOL = RetrievedExample(
    text="A new tool.", true_labels=("AI", "automation"), all_labels=("AI", "sport", "automation", "news", "sport")
)
NAMES = st.text(st.characters(categories=("L", "P")), min_size=1, max_size=5)
TEXTS = st.text(st.characters(categories=("L", "P", "Zs")), max_size=10).map(lambda text: f"x{text}")


@st.composite
def determined(draw: st.DrawFn) -> RetrievedExample:
    """With one false label at most: the library gives several in an order of chance."""
    true = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    false = [name for name in draw(st.lists(NAMES, max_size=1)) if name not in true]
    return RetrievedExample(text=draw(TEXTS), true_labels=true, all_labels=draw(st.permutations(true + false)))


def test_labels_that_hold_stand_before_those_that_do_not_in_the_order_given() -> None:
    assert retrieval_text("Hello", [TOOL]) == (
        "Hello <<EXAMPLE>> A new tool. <<TRUE_LABEL>> AI <<TRUE_LABEL>> automation "
        "<<FALSE_LABEL>> sport <<FALSE_LABEL>> news <</EXAMPLE>>"
    )


@given(TEXTS, st.lists(determined(), max_size=3))
def test_the_string_is_that_of_the_gliclass_library(text: str, examples: list[RetrievedExample]) -> None:
    assert retrieval_text(text, examples) == retrieval_augmented_text(text, [each.model_dump() for each in examples])


def test_with_several_false_labels_it_is_the_librarys_string_but_for_their_order() -> None:
    given_, theirs = retrieval_text("Hello", [TOOL]), retrieval_augmented_text("Hello", [TOOL.model_dump()])
    assert sorted(given_.split()) == sorted(theirs.split())
    assert given_.partition("<<FALSE_LABEL>>")[0] == theirs.partition("<<FALSE_LABEL>>")[0]


@pytest.mark.parametrize("prompt_first", [True, False])
def test_a_model_without_such_tokens_reads_the_string_as_the_library_gives_it(
    prompt_first: bool, engine: Callable[..., Engine], reference: Callable[..., Reference]
) -> None:
    theirs, labels = reference("bert", prompt_first=prompt_first), ("sport", "news")
    example = RetrievedExample(text="The team won.", true_labels=("sport",), all_labels=labels)
    read = theirs.input_ids(retrieval_augmented_text("A cup!", [example.model_dump()]), labels)
    found = engine("bert", prompt_first=prompt_first).logits([retrieval_text("A cup!", [example])], labels)
    np.testing.assert_allclose(found[0], theirs.logits(read).numpy(), atol=1e-5, rtol=0)


def test_without_examples_the_text_is_all() -> None:
    assert retrieval_pieces([]) == ()
    assert retrieval_text("Hello", []) == "Hello"


def test_what_looks_like_a_marker_in_a_text_or_a_label_is_plain() -> None:
    sly = RetrievedExample(text="<<EXAMPLE>>", true_labels=("<<LABEL>>",), all_labels=("<</EXAMPLE>>",))
    markers = [piece.text for piece in retrieval_pieces([sly]) if piece.is_marker]
    assert markers == ["<<EXAMPLE>>", "<<TRUE_LABEL>>", "<<FALSE_LABEL>>", "<</EXAMPLE>>"]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"text": " "}, "is empty; give the example a text or remove it"),
        ({"text": "a\x00"}, "holds the control character"),
        ({"true_labels": ()}, "holds no label; name at least one"),
        ({"true_labels": ("AI", "AI")}, "label 'AI' appears twice; remove one"),
    ],
)
def test_an_example_that_says_nothing_is_refused(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        RetrievedExample.model_validate({**TOOL.model_dump(), **change})
