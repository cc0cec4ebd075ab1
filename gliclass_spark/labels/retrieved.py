"""Retrieved examples: texts like the one that is asked about, with the labels that hold for them and those that don't.

Models that were trained for retrieval-augmented classification read them behind the text, between markers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from gliclass_spark.labels.example import ExampleText, Names


class RetrievedExample(BaseModel):
    """A text, the labels that hold for it, at least one, and all that it was asked about.

    Labels of `all_labels` that are not among the true ones are false for the text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: ExampleText
    true_labels: Names
    all_labels: tuple[str, ...] = ()

    @property
    def false_labels(self) -> tuple[str, ...]:
        """In the order of `all_labels`, each once."""
        return tuple(name for name in dict.fromkeys(self.all_labels) if name not in self.true_labels)


@dataclass(frozen=True)
class Piece:
    """A part of what the model reads: a marker between texts, or plain characters, whatever they look like."""

    text: str
    is_marker: bool


def retrieval_pieces(examples: Sequence[RetrievedExample]) -> tuple[Piece, ...]:
    """What stands behind a text, piece by piece; nothing without examples.

    A marker is a control token where the model's tokenizer has it as one, and plain characters elsewhere.
    Nothing in a text or a label is ever a marker.
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
    """The text with its retrieved examples, as one string.

    As a text that is classified it is plain characters from end to end, its markers included.
    """
    return text + "".join(piece.text for piece in retrieval_pieces(examples))


def _labels(marker: str, names: Sequence[str]) -> list[Piece]:
    pieces: list[Piece] = []
    for place, name in enumerate(names):
        if place:
            pieces.append(_plain(" "))
        pieces += (_marker(marker), _plain(f" {name}"))
    return pieces


def _marker(text: str) -> Piece:
    return Piece(text, is_marker=True)


def _plain(text: str) -> Piece:
    return Piece(text, is_marker=False)
