"""Retrieved examples: the input format of models for retrieval-augmented classification."""

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
def deterministic_examples(draw: st.DrawFn) -> RetrievedExample:
    """Draw an example with at most one false label, since the library shuffles several."""
    true = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    false = [name for name in draw(st.lists(NAMES, max_size=1)) if name not in true]
    return RetrievedExample(text=draw(TEXTS), true_labels=true, all_labels=draw(st.permutations(true + false)))


def test_true_labels_precede_false_ones_in_their_order() -> None:
    assert retrieval_text("Hello", [TOOL]) == (
        "Hello <<EXAMPLE>> A new tool. <<TRUE_LABEL>> AI <<TRUE_LABEL>> automation "
        "<<FALSE_LABEL>> sport <<FALSE_LABEL>> news <</EXAMPLE>>"
    )


@given(TEXTS, st.lists(deterministic_examples(), max_size=3))
def test_the_string_is_that_of_the_gliclass_library(text: str, examples: list[RetrievedExample]) -> None:
    assert retrieval_text(text, examples) == retrieval_augmented_text(text, [each.model_dump() for each in examples])


def test_several_false_labels_give_the_string_of_the_library_but_for_their_order() -> None:
    ours, theirs = retrieval_text("Hello", [TOOL]), retrieval_augmented_text("Hello", [TOOL.model_dump()])
    assert sorted(ours.split()) == sorted(theirs.split())
    assert ours.partition("<<FALSE_LABEL>>")[0] == theirs.partition("<<FALSE_LABEL>>")[0]


@pytest.mark.parametrize("prompt_first", [True, False])
def test_a_model_without_the_marker_tokens_scores_the_string_as_the_library_does(
    prompt_first: bool, engine: Callable[..., Engine], reference: Callable[..., Reference]
) -> None:
    theirs, labels = reference("bert", prompt_first=prompt_first), ("sport", "news")
    example = RetrievedExample(text="The team won.", true_labels=("sport",), all_labels=labels)
    input_ids = theirs.input_ids(retrieval_augmented_text("A cup!", [example.model_dump()]), labels)
    logits = engine("bert", prompt_first=prompt_first).logits([retrieval_text("A cup!", [example])], labels)
    np.testing.assert_allclose(logits[0], theirs.logits(input_ids).numpy(), atol=1e-5, rtol=0)


def test_without_examples_the_text_is_unchanged() -> None:
    assert retrieval_pieces([]) == ()
    assert retrieval_text("Hello", []) == "Hello"


def test_text_that_looks_like_a_marker_is_plain() -> None:
    hostile = RetrievedExample(text="<<EXAMPLE>>", true_labels=("<<LABEL>>",), all_labels=("<</EXAMPLE>>",))
    markers = [piece.text for piece in retrieval_pieces([hostile]) if piece.is_marker]
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
def test_an_invalid_retrieved_example_is_refused(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        RetrievedExample.model_validate({**TOOL.model_dump(), **change})
