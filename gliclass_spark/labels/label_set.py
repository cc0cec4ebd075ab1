"""The label set: labels that are asked together, and how."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from gliclass_spark import yaml_loader
from gliclass_spark.errors import ConfigError, LabelSetError, describe_validation
from gliclass_spark.labels.example import Example
from gliclass_spark.labels.label import Label, Probability, Temperature
from gliclass_spark.labels.retrieved import RetrievedExample
from gliclass_spark.labels.tree import Tree, flattened, nested

DEFAULT_THRESHOLD = 0.5

Count = Annotated[int, Field(ge=1, strict=True)]
LongTexts = Literal["max", "mean", "token_mean", "cut"]


class LabelSet(BaseModel):
    """Named labels that are asked together, in their order.

    With `multi_label` (the default) every label is judged alone, by a sigmoid; without it the labels'
    scores sum to one, by a softmax over the set. A text gets the labels that reach their threshold;
    with `top_k`, at most so many of them, the best ones. `threshold` and `temperature` are for labels
    that state none of their own. `prompt` is a task description that the model reads before the text,
    `examples` are texts whose labels are known, which it reads after it; `retrieved` are such texts in the
    format of models that were trained for retrieval-augmented classification, with labels of any set.

    long_texts: how the windows of a text longer than the model's own are joined: label by label, by the
    maximum ("max") of their logits, by their mean, in which each window counts as much ("mean") or each token
    of the text does ("token_mean"); or "cut", and only the first one is read. None is the default rule, see
    `joined_by`.
    labels_per_pass: how many labels at most a model that reads labels beside the text is asked at once.
    None: all, if they leave a quarter of its window to the text, or else as many as leave half of it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ignored_types=(cached_property,))

    name: str = "labels"
    multi_label: bool = True
    threshold: Probability = DEFAULT_THRESHOLD
    temperature: Temperature | None = None
    top_k: Count | None = None
    prompt: str | None = None
    long_texts: LongTexts | None = None
    labels_per_pass: Count | None = None
    labels: tuple[Label, ...]
    # What has no value is left out of the canonical JSON: a set that does not use a field keeps its hash.
    examples: Annotated[tuple[Example, ...], Field(exclude_if=lambda examples: not examples)] = ()
    retrieved: Annotated[tuple[RetrievedExample, ...], Field(exclude_if=lambda retrieved: not retrieved)] = ()

    @field_validator("name", "prompt")
    @classmethod
    def _encodable(cls, value: str | None) -> str | None:
        try:
            (value or "").encode()
        except UnicodeEncodeError:
            raise ValueError(f"{(value or '')[:40]!r} is not valid Unicode; decode it properly, or reword it") from None
        return value

    @field_validator("labels", mode="before")
    @classmethod
    def _accept_plain_names(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return flattened(value)
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

    @field_validator("examples")
    @classmethod
    def _of_this_set(cls, value: tuple[Example, ...], info: ValidationInfo) -> tuple[Example, ...]:
        known = {label.name for label in info.data.get("labels", ())}
        for place, example in enumerate(value):
            for name in example.labels:
                if known and name not in known:
                    raise ValueError(
                        f"example {place} names the label {name!r}, which the set does not have; "
                        "add it to the labels, correct it, or remove the example"
                    )
        return value

    @classmethod
    def of(cls, *labels: str | Label | Tree, name: str = "labels", multi_label: bool = True) -> LabelSet:
        """A label set from names, or from one tree: `LabelSet.of({"sentiment": ["positive", "negative"]})`.

        Raises LabelSetError on duplicate, empty or over-long labels.
        """
        tree = len(labels) == 1 and isinstance(labels[0], Mapping)
        document = {"name": name, "multi_label": multi_label, "labels": labels[0] if tree else labels}
        return cls._validated(document, "LabelSet.of")

    @classmethod
    def coerce(cls, labels: LabelSet | Sequence[str] | Tree) -> LabelSet:
        """The label set itself, or one of the names or the tree given. Raises LabelSetError."""
        if isinstance(labels, LabelSet):
            return labels
        if isinstance(labels, Mapping):
            return cls.of(labels)
        if isinstance(labels, str):
            raise LabelSetError(f"labels must be a list of names or a LabelSet, found the text {labels!r}")
        return cls.of(*labels)

    @classmethod
    def from_yaml(cls, path: str | Path) -> LabelSet:
        """Read `conf/labels/*.yaml`. Raises LabelSetError that names file, key and mend."""
        try:
            document = yaml_loader.load(path)
        except ConfigError as error:
            raise LabelSetError(f"label set {error}") from None
        if isinstance(document, dict):
            document = {"name": Path(path).stem, **document}
        return cls._validated(document, str(path))

    @classmethod
    def from_json(cls, text: str) -> LabelSet:
        """The inverse of `canonical_json`."""
        return cls._validated(json.loads(text), "label set JSON")

    def asking(
        self,
        *,
        prompt: str | None = None,
        examples: Sequence[Example] | None = None,
        retrieved: Sequence[RetrievedExample] | None = None,
    ) -> LabelSet:
        """This label set with another task prompt or other examples; None keeps its own.

        Raises LabelSetError for an example that names a label which the set does not have.
        """
        document = {name: getattr(self, name) for name in LabelSet.model_fields}
        changes = {"prompt": prompt, "examples": examples, "retrieved": retrieved}
        document.update({name: value for name, value in changes.items() if value is not None})
        return self._validated(document, "LabelSet.asking")

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """A copy, changed as `update` says without a check, with a canonical JSON and a hash of its own."""
        copy = super().model_copy(update=update, deep=deep)
        for derived in ("canonical_json", "hash"):  # pydantic copies what is cached, too
            copy.__dict__.pop(derived, None)
        return copy

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

    def nested(self, scores: Mapping[str, float]) -> dict[str, Any]:
        """The scores as the set's tree, branches first: {"sentiment": {"positive": 0.9}}; flat for a flat set.

        Labels without a score, and branches without any, are left out. Raises LabelSetError for a score of
        no label of this set, and if a label and a group are of one name in one place.
        """
        return nested(self.labels, scores)

    @property
    def joined_by(self) -> LongTexts:
        """How the windows of a long text are joined: what `long_texts` says, otherwise their mean.

        On the long texts of the development sets the mean found the labels best (benchmarks/windows_and_groups.py).
        """
        return self.long_texts or "mean"

    @cached_property
    def canonical_json(self) -> str:
        """One spelling for one question: sorted keys, no white space, absent values left out."""
        document = self.model_dump(mode="json", exclude_none=True)
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of `canonical_json`, in hexadecimal."""
        return hashlib.sha256(self.canonical_json.encode()).hexdigest()
