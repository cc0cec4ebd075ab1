"""An example: a text whose labels are known, which the model reads beside the text that it is asked about."""

from __future__ import annotations

from typing import Annotated
from unicodedata import category

from pydantic import AfterValidator, BaseModel, ConfigDict

MAX_EXAMPLE_CHARS = 10_000

_WHITE_SPACE = frozenset("\n\r\t")
# Control characters, and halves of surrogate pairs, which no encoding can write.
_NO_TEXT = frozenset({"Cc", "Cs"})


def _readable(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty; give the example a text or remove it")
    if len(value) > MAX_EXAMPLE_CHARS:
        raise ValueError(
            f"{value[:40]!r}... has {len(value)} characters, at most {MAX_EXAMPLE_CHARS} are read; shorten it"
        )
    for character in value:
        if category(character) in _NO_TEXT and character not in _WHITE_SPACE:
            raise ValueError(f"{value[:40]!r} holds {character!r}, which is no text; remove it")
    return value


def _distinct(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("holds no label; name at least one that the text has, or remove the example")
    named = tuple(name.strip() for name in value)
    for place, name in enumerate(named):
        if name in named[:place]:
            raise ValueError(f"label {name!r} appears twice; remove one")
    return named


# At most MAX_EXAMPLE_CHARS, and read as they stand, line breaks included.
ExampleText = Annotated[str, AfterValidator(_readable)]
Names = Annotated[tuple[str, ...], AfterValidator(_distinct)]


class Example(BaseModel):
    """A text and the names of the labels that hold for it, at least one.

    The text is read as it stands, line breaks included.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: ExampleText
    labels: Names
