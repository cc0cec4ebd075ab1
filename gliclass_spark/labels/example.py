"""Examples: texts with known labels, for classification with few examples and without a training."""

from __future__ import annotations

from typing import Annotated
from unicodedata import category

from pydantic import AfterValidator, BaseModel, ConfigDict

MAX_EXAMPLE_CHARS = 10_000

_WHITESPACE = frozenset("\n\r\t")
# Control characters, and lone surrogates, which no encoding can write.
_INVALID_CATEGORIES = frozenset({"Cc", "Cs"})


def _check_text(value: str) -> str:
    if not value.strip():
        raise ValueError("is empty; give the example a text or remove it")
    if len(value) > MAX_EXAMPLE_CHARS:
        raise ValueError(
            f"{value[:40]!r}... has {len(value)} characters, at most {MAX_EXAMPLE_CHARS} are read; shorten it"
        )
    for character in value:
        if category(character) in _INVALID_CATEGORIES and character not in _WHITESPACE:
            raise ValueError(f"{value[:40]!r} holds the control character {character!r}; remove it")
    return value


def _check_names(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("holds no label; name at least one that the text has, or remove the example")
    names = tuple(name.strip() for name in value)
    for index, name in enumerate(names):
        if name in names[:index]:
            raise ValueError(f"label {name!r} appears twice; remove one")
    return names


ExampleText = Annotated[str, AfterValidator(_check_text)]
Names = Annotated[tuple[str, ...], AfterValidator(_check_names)]


class Example(BaseModel):
    """A text and the names of its labels."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: ExampleText
    """The text, line breaks included. At most 10,000 characters."""
    labels: Names
    """The names of the text's labels, at least one."""
