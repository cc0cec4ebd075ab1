"""Label sets: the labels that every text is scored for, and how."""

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
from gliclass_spark.labels.label import Bias, Label, Probability, Temperature
from gliclass_spark.labels.retrieved import RetrievedExample
from gliclass_spark.labels.tree import Tree, flatten, nest

DEFAULT_THRESHOLD = 0.5

Count = Annotated[int, Field(ge=1, strict=True)]
LongTexts = Literal["max", "mean", "token_mean", "cut"]


class LabelSet(BaseModel):
    """Labels that a text is scored for together, in their order."""

    model_config = ConfigDict(extra="forbid", frozen=True, ignored_types=(cached_property,))

    name: str = "labels"
    """The name in tables. Default in files: the file's name, or in a pipeline the pipeline's."""
    multi_label: bool = True
    """True: each label is scored independently, by a sigmoid. False: the labels are exclusive and their scores sum
    to 1, by a softmax over the set."""
    threshold: Probability = DEFAULT_THRESHOLD
    """The score from which a label is assigned, for labels without their own."""
    temperature: Temperature | None = None
    """Divides the logits, for labels without their own. Without it, 1."""
    bias: Bias | None = None
    """Added to the divided logits, for labels without their own. Without it, 0."""
    top_k: Count | None = None
    """At most this many labels per text, the best of those that reach their threshold."""
    prompt: str | None = None
    """A task description, placed before the text."""
    long_texts: LongTexts | None = None
    """How the logits of the windows of a long text are aggregated, per label: the maximum ("max"), the mean over
    windows ("mean") or over tokens ("token_mean"), or only the first window ("cut"). Without it, "mean"."""
    labels_per_pass: Count | None = None
    """At most this many labels per forward pass, for models that encode labels with the text. Without it, all if they
    leave a quarter of the window to the text, otherwise as many as leave half of it."""
    labels: tuple[Label, ...]
    """In files: a list of names or mappings, or a tree of branches."""
    # Empty fields are left out of the canonical JSON, so that a set without them keeps its hash.
    examples: Annotated[tuple[Example, ...], Field(exclude_if=lambda examples: not examples)] = ()
    """Texts with known labels. Label-cached models move the labels towards them; others read them behind each text, if
    they were trained to."""
    retrieved: Annotated[tuple[RetrievedExample, ...], Field(exclude_if=lambda retrieved: not retrieved)] = ()
    """Texts with known labels of any set, in the format of models for retrieval-augmented classification."""

    @field_validator("name", "prompt")
    @classmethod
    def _is_unicode(cls, value: str | None) -> str | None:
        try:
            (value or "").encode()
        except UnicodeEncodeError:
            raise ValueError(f"{(value or '')[:40]!r} is not valid Unicode; decode it properly, or reword it") from None
        return value

    @field_validator("labels", mode="before")
    @classmethod
    def _accept_names_and_trees(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return flatten(value)
        if not isinstance(value, (list, tuple)):
            return value
        return [{"name": label} if isinstance(label, str) else label for label in value]

    @field_validator("labels")
    @classmethod
    def _are_distinct(cls, value: tuple[Label, ...]) -> tuple[Label, ...]:
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
    def _have_labels_of_the_set(cls, value: tuple[Example, ...], info: ValidationInfo) -> tuple[Example, ...]:
        names = {label.name for label in info.data.get("labels", ())}
        for index, example in enumerate(value):
            for name in example.labels:
                if names and name not in names:
                    raise ValueError(
                        f"example {index} names the label {name!r}, which the set does not have; "
                        "add it to the labels, correct it, or remove the example"
                    )
        return value

    @classmethod
    def of(cls, *labels: str | Label | Tree, name: str = "labels", multi_label: bool = True) -> LabelSet:
        """Return a label set of these names, or of one tree: `LabelSet.of({"sentiment": ["positive", "negative"]})`.

        Raises LabelSetError for duplicate, empty or over-long labels.
        """
        is_tree = len(labels) == 1 and isinstance(labels[0], Mapping)
        document = {"name": name, "multi_label": multi_label, "labels": labels[0] if is_tree else labels}
        return cls._validated(document, "LabelSet.of")

    @classmethod
    def coerce(cls, labels: LabelSet | Sequence[str] | Tree) -> LabelSet:
        """Return the label set itself, or one of the given names or tree. Raises LabelSetError."""
        if isinstance(labels, LabelSet):
            return labels
        if isinstance(labels, Mapping):
            return cls.of(labels)
        if isinstance(labels, str):
            raise LabelSetError(
                f"labels must be a list of names or a LabelSet, found the text {labels!r}; for one label write "
                f"[{labels!r}]"
            )
        try:
            names = tuple(labels)
        except TypeError:
            raise LabelSetError(
                f"labels must be a list of names, a tree or a LabelSet, found {labels!r}; write them as ['spam', 'ham']"
            ) from None
        return cls.of(*names)

    @classmethod
    def from_yaml(cls, path: str | Path) -> LabelSet:
        """Return the label set in a file of conf/labels. Raises LabelSetError with the file, the key and the fix."""
        try:
            document = yaml_loader.load(path)
        except ConfigError as error:
            raise LabelSetError(f"label set {error}") from None
        if isinstance(document, dict):
            document = {"name": Path(path).stem, **document}
        return cls._validated(document, str(path))

    @classmethod
    def from_json(cls, text: str) -> LabelSet:
        """Return the label set of a `canonical_json`."""
        return cls._validated(json.loads(text), "label set JSON")

    def replace(
        self,
        *,
        prompt: str | None = None,
        examples: Sequence[Example] | None = None,
        retrieved: Sequence[RetrievedExample] | None = None,
    ) -> LabelSet:
        """Return this label set with another prompt or other examples; None keeps the present ones.

        Raises LabelSetError for an example with a label that the set does not have.
        """
        document = {name: getattr(self, name) for name in LabelSet.model_fields}
        changes = {"prompt": prompt, "examples": examples, "retrieved": retrieved}
        document.update({name: value for name, value in changes.items() if value is not None})
        return self._validated(document, "LabelSet.replace")

    def calibrated_by(self, calibration: LabelSet) -> LabelSet:
        """Return this label set with the temperatures, biases and thresholds of another one, label by label.

        What this label set states itself stays, for a label or for the set; so does a label that the other one lacks.
        """
        values = zip(calibration.temperatures, calibration.biases, calibration.thresholds, strict=True)
        by_name = dict(zip(calibration.names, values, strict=True))
        stated = (self.temperature is not None, self.bias is not None, self.threshold != DEFAULT_THRESHOLD)

        def calibrated(label: Label) -> Label:
            own = (label.temperature, label.bias, label.threshold)
            fields = zip(("temperature", "bias", "threshold"), own, stated, by_name.get(label.name, own), strict=True)
            return label.model_copy(
                update={name: new for name, value, is_stated, new in fields if value is None and not is_stated}
            )

        return self.model_copy(update={"labels": tuple(calibrated(label) for label in self.labels)})

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy with unvalidated changes, without the cached JSON and hash of the original."""
        copy = super().model_copy(update=update, deep=deep)
        for cached in ("canonical_json", "hash", "question_hash"):  # pydantic copies cached properties, too
            copy.__dict__.pop(cached, None)
        return copy

    def to_yaml(self) -> str:
        """Return YAML that `from_yaml` loads as this label set."""
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
        """The texts that the model reads for the labels."""
        return tuple(label.text for label in self.labels)

    @property
    def thresholds(self) -> tuple[float, ...]:
        return tuple(self.threshold if label.threshold is None else label.threshold for label in self.labels)

    @property
    def temperatures(self) -> tuple[float, ...]:
        default = self.temperature or 1.0
        return tuple(default if label.temperature is None else label.temperature for label in self.labels)

    @property
    def biases(self) -> tuple[float, ...]:
        default = self.bias or 0.0
        return tuple(default if label.bias is None else label.bias for label in self.labels)

    def nested(self, scores: Mapping[str, float]) -> dict[str, Any]:
        """Return the scores in the shape of the set's tree: {"sentiment": {"positive": 0.9}}; flat for a flat set.

        Labels without a score, and branches without scores, are left out. Raises LabelSetError for a score of a
        label that the set does not have, and if a label and a group have one name at one position.
        """
        return nest(self.labels, scores)

    @property
    def window_aggregation(self) -> LongTexts:
        """How the windows of a long text are aggregated: `long_texts`, by default their mean.

        On the long texts of the development sets the mean had the best F1 (benchmarks/quality/windows_and_groups.py).
        """
        return self.long_texts or "mean"

    @cached_property
    def canonical_json(self) -> str:
        """The set as JSON that is the same for equal sets: sorted keys, no white space, no absent values."""
        document = self.model_dump(mode="json", exclude_none=True)
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of `canonical_json`, in hexadecimal."""
        return hashlib.sha256(self.canonical_json.encode()).hexdigest()

    @cached_property
    def question_hash(self) -> str:
        """SHA-256 of what the model reads: labels with their descriptions, prompt and examples.

        Temperatures, biases, thresholds, `top_k` and the name are no part of it: they change how scores are used.
        """
        question = {
            "multi_label": self.multi_label,
            "prompt": self.prompt,
            "labels": sorted(self.texts),
            "examples": [example.model_dump(mode="json") for example in self.examples],
            "retrieved": [example.model_dump(mode="json") for example in self.retrieved],
        }
        return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()
