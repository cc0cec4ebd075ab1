"""The label set: the question that a model is asked about every text."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from gliclass_spark import strict_yaml
from gliclass_spark.errors import ConfigError, LabelSetError, describe_validation

DEFAULT_THRESHOLD = 0.5
MAX_NAME_CHARS = 200
MAX_DESCRIPTION_CHARS = 1000

# Strict, because a lax number would take `true` for 1.0.
Probability = Annotated[float, Field(ge=0.0, le=1.0, strict=True)]
Temperature = Annotated[float, Field(gt=0.0, lt=float("inf"), strict=True)]


class Label(BaseModel):
    """One answer that a text can get.

    A description is read by the model after the name (`name: description`); the name alone appears
    in tables and rules. Logits are divided by the temperature before they become probabilities.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: str | None = None
    threshold: Probability | None = None
    temperature: Temperature | None = None
    group: str | None = None

    @field_validator("name", "description", "group")
    @classmethod
    def _one_line(cls, value: str | None) -> str | None:
        if value is None:
            return None
        value = value.strip()
        if not value:
            raise ValueError("is empty; give it a text or remove it")
        if not value.isprintable():
            raise ValueError(f"{value!r} holds a line break or a control character; write it as one line")
        return value

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


class LabelSet(BaseModel):
    """Named labels that are asked together, in their order.

    With `multi_label` (the default) every label is judged alone, by a sigmoid; without it exactly
    one label holds, by a softmax over the set. `threshold` and `temperature` are for labels that
    state none of their own. `prompt` is a task description that the model reads before the text.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ignored_types=(cached_property,))

    name: str = "labels"
    multi_label: bool = True
    threshold: Probability = DEFAULT_THRESHOLD
    temperature: Temperature | None = None
    prompt: str | None = None
    labels: tuple[Label, ...]

    @field_validator("labels", mode="before")
    @classmethod
    def _accept_plain_names(cls, value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            return value
        return [{"name": label} if isinstance(label, str) else label for label in value]

    @field_validator("labels")
    @classmethod
    def _distinct(cls, value: tuple[Label, ...]) -> tuple[Label, ...]:
        if not value:
            raise ValueError("holds no label; name at least one")
        seen: set[str] = set()
        for label in value:
            if label.name in seen:
                raise ValueError(f"label {label.name!r} appears twice; remove one")
            seen.add(label.name)
        return value

    @classmethod
    def of(cls, *labels: str | Label, name: str = "labels", multi_label: bool = True) -> LabelSet:
        """A label set from names. Raises LabelSetError on duplicate, empty or over-long labels."""
        return cls._validated({"name": name, "multi_label": multi_label, "labels": list(labels)}, "LabelSet.of")

    @classmethod
    def coerce(cls, labels: LabelSet | Sequence[str]) -> LabelSet:
        """The label set itself, or one of the names given. Raises LabelSetError."""
        if isinstance(labels, LabelSet):
            return labels
        if isinstance(labels, str):
            raise LabelSetError(f"labels must be a list of names or a LabelSet, found the text {labels!r}")
        return cls.of(*labels)

    @classmethod
    def from_yaml(cls, path: str | Path) -> LabelSet:
        """Read `conf/labels/*.yaml`. Raises LabelSetError that names file, key and mend."""
        try:
            document = strict_yaml.load(path)
        except ConfigError as error:
            raise LabelSetError(f"label set {error}") from None
        if isinstance(document, dict):
            document = {"name": Path(path).stem, **document}
        return cls._validated(document, str(path))

    @classmethod
    def from_json(cls, text: str) -> LabelSet:
        """The inverse of `canonical_json`."""
        return cls._validated(json.loads(text), "label set JSON")

    def to_yaml(self) -> str:
        """What `from_yaml` reads as this label set."""
        document = self.model_dump(mode="json", exclude_none=True)
        return yaml.safe_dump(document, sort_keys=False, allow_unicode=True)

    @classmethod
    def _validated(cls, document: Any, source: str) -> LabelSet:
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            raise LabelSetError(describe_validation(error, source)) from None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(label.name for label in self.labels)

    @property
    def texts(self) -> tuple[str, ...]:
        """What the model reads, label by label."""
        return tuple(label.text for label in self.labels)

    @property
    def thresholds(self) -> tuple[float, ...]:
        return tuple(self.threshold if label.threshold is None else label.threshold for label in self.labels)

    @property
    def temperatures(self) -> tuple[float, ...]:
        otherwise = self.temperature or 1.0
        return tuple(otherwise if label.temperature is None else label.temperature for label in self.labels)

    @cached_property
    def canonical_json(self) -> str:
        """One spelling for one question: sorted keys, no white space, absent values left out."""
        document = self.model_dump(mode="json", exclude_none=True)
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of `canonical_json`, in hexadecimal."""
        return hashlib.sha256(self.canonical_json.encode()).hexdigest()
