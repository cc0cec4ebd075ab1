"""A label: one answer that a text can get."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MAX_NAME_CHARS = 200
MAX_DESCRIPTION_CHARS = 1000
# Between the branches and the own name of a label in a tree.
SEPARATOR = "."

# Strict, because a lax number would take `true` for 1.0.
Probability = Annotated[float, Field(ge=0.0, le=1.0, strict=True)]
Temperature = Annotated[float, Field(gt=0.0, lt=float("inf"), strict=True)]


class Label(BaseModel):
    """One answer that a text can get.

    A description is read by the model after the name (`name: description`); the name alone appears
    in tables and rules. Logits are divided by the temperature before they become probabilities.

    group: where the label stands in a tree of labels: a branch, or several from the top. It shapes
    `LabelSet.nested`, and the model does not read it. A label that a tree was given for is called by its
    branches and its own name, `sentiment.positive`, and has the branches as its group; a dot in any other
    name is a character like all.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: str | None = None
    threshold: Probability | None = None
    temperature: Temperature | None = None
    group: str | tuple[str, ...] | None = None

    @field_validator("name", "description")
    @classmethod
    def _one_line(cls, value: str | None) -> str | None:
        return None if value is None else _line(value)

    @field_validator("group")
    @classmethod
    def _one_spelling(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        lines = tuple(_line(branch) for branch in _branches(value))
        return lines if len(lines) > 1 else next(iter(lines), None)

    @model_validator(mode="after")
    def _short_enough(self) -> Label:
        for field, limit in (("name", MAX_NAME_CHARS), ("description", MAX_DESCRIPTION_CHARS)):
            length = len(getattr(self, field) or "")
            if length > limit:
                start = getattr(self, field)[:40]
                raise ValueError(f"{field} {start!r}... has {length} characters, at most {limit} are read; shorten it")
        return self

    @property
    def text(self) -> str:
        """What the model reads for this label."""
        return f"{self.name}: {self.description}" if self.description else self.name

    @property
    def branches(self) -> tuple[str, ...]:
        """The branches that the label stands under, from the top; none in a flat set."""
        return _branches(self.group)

    @property
    def own_name(self) -> str:
        """The name without the branches that it begins with: `positive` for `sentiment.positive` under sentiment."""
        return self.name.removeprefix(SEPARATOR.join((*self.branches, ""))) or self.name


def _branches(group: str | tuple[str, ...] | None) -> tuple[str, ...]:
    if group is None:
        return ()
    return (group,) if isinstance(group, str) else group


def _line(value: str) -> str:
    value = value.strip()
    if not value:
        raise ValueError("is empty; give it a text or remove it")
    if not value.isprintable():
        raise ValueError(f"{value!r} holds a line break or a control character; write it as one line")
    return value
