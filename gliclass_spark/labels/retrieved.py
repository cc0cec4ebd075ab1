"""Retrieved examples: similar texts with true and false labels, for models of retrieval-augmented classification.

These models read them after the text, between marker tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from gliclass_spark.labels.example import ExampleText, Names


class RetrievedExample(BaseModel):
    """A retrieved text and its labels. Those of `all_labels` that are not true are false."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: ExampleText
    """The retrieved text."""
    true_labels: Names
    """The labels of the text, at least one."""
    all_labels: tuple[str, ...] = ()
    """All labels that the text was annotated for."""

    @property
    def false_labels(self) -> tuple[str, ...]:
        """The labels of `all_labels` that are not true, without duplicates, in their order."""
        return tuple(name for name in dict.fromkeys(self.all_labels) if name not in self.true_labels)


@dataclass(frozen=True)
class Piece:
    """A part of the model's input: a marker token, or plain characters even if they look like a marker."""

    text: str
    is_marker: bool


def retrieval_pieces(examples: Sequence[RetrievedExample]) -> tuple[Piece, ...]:
    """Return the input that follows a text, in pieces; empty without examples.

    A marker is encoded as a control token if the tokenizer has it, and as plain characters otherwise. Texts and
    labels never contain markers, only plain characters.
    """
    pieces: list[Piece] = []
    for example in examples:
        pieces += (_plain(" "), _marker("<<EXAMPLE>>"), _plain(f" {example.text} "))
        pieces += _labels("<<TRUE_LABEL>>", example.true_labels)
        pieces.append(_plain(" "))
        pieces += _labels("<<FALSE_LABEL>>", example.false_labels)
        pieces += (_plain(" "), _marker("<</EXAMPLE>>"))
    return tuple(pieces)


def retrieval_text(text: str, examples: Sequence[RetrievedExample]) -> str:
    """Return the text with its retrieved examples as one string.

    When this string is classified, its markers are plain characters, too.
    """
    return text + "".join(piece.text for piece in retrieval_pieces(examples))


def _labels(marker: str, names: Sequence[str]) -> list[Piece]:
    pieces: list[Piece] = []
    for index, name in enumerate(names):
        if index:
            pieces.append(_plain(" "))
        pieces += (_marker(marker), _plain(f" {name}"))
    return pieces


def _marker(text: str) -> Piece:
    return Piece(text, is_marker=True)


def _plain(text: str) -> Piece:
    return Piece(text, is_marker=False)
