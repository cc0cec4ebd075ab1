"""Labels: the classes that a text can have."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

MAX_NAME_CHARS = 200
MAX_DESCRIPTION_CHARS = 1000
# Separates the branches and the own name of a label in a tree.
SEPARATOR = "."

# Strict, because otherwise `true` would be accepted as 1.0.
Probability = Annotated[float, Field(ge=0.0, le=1.0, strict=True)]
Temperature = Annotated[float, Field(gt=0.0, lt=float("inf"), strict=True)]
Bias = Annotated[float, Field(gt=float("-inf"), lt=float("inf"), strict=True)]


class Label(BaseModel):
    """One class that a text can have.

    A label from a tree is named by its branches and its own name, `sentiment.positive`, with the branches as its
    group. In any other name a dot has no meaning.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    """The name in tables and rules. One line, at most 200 characters."""
    description: str | None = None
    """Text that the model reads after the name, as `name: description`. At most 1,000 characters."""
    threshold: Probability | None = None
    """The score from which the label is assigned; without it, the label set's."""
    temperature: Temperature | None = None
    """Divides the label's logits; without it, the label set's."""
    bias: Bias | None = None
    """Added to the divided logits; without it, the label set's."""
    group: str | tuple[str, ...] | None = None
    """The branch of the label in a tree, or several from the root. It shapes `LabelSet.nested`; the model does not
    read it."""

    @field_validator("name", "description")
    @classmethod
    def _are_one_line(cls, value: str | None) -> str | None:
        return None if value is None else _line(value)

    @field_validator("group")
    @classmethod
    def _normalize_group(cls, value: str | tuple[str, ...] | None) -> str | tuple[str, ...] | None:
        lines = tuple(_line(branch) for branch in _branches(value))
        return lines if len(lines) > 1 else next(iter(lines), None)

    @model_validator(mode="after")
    def _limit_lengths(self) -> Label:
        for field, limit in (("name", MAX_NAME_CHARS), ("description", MAX_DESCRIPTION_CHARS)):
            length = len(getattr(self, field) or "")
            if length > limit:
                start = getattr(self, field)[:40]
                raise ValueError(f"{field} {start!r}... has {length} characters, at most {limit} are read; shorten it")
        return self

    @property
    def text(self) -> str:
        """The text that the model reads for this label."""
        return f"{self.name}: {self.description}" if self.description else self.name

    @property
    def branches(self) -> tuple[str, ...]:
        """The branches of the label in its tree, from the root; none in a flat set."""
        return _branches(self.group)

    @property
    def own_name(self) -> str:
        """The name without its branches: `positive` for `sentiment.positive` in the branch sentiment."""
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
