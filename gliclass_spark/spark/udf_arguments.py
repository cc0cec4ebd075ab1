"""Arguments of the functions that classify a text column, checked when a function is made. Loads no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, Literal

from pyspark.sql.types import DataType, FloatType, MapType, StringType

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.errors import ConfigError
from gliclass_spark.labels import LabelSet, Tree
from gliclass_spark.spark.delta.schema import SCORED_LABELS, TAG_FIELDS

if TYPE_CHECKING:
    from gliclass_spark.inference.device import Precision

Output = Literal["labels", "best", "scores", "full"]

OUTPUT_TYPES: dict[str, DataType] = {
    "labels": SCORED_LABELS,
    "best": StringType(),
    "scores": MapType(StringType(), FloatType()),
    "full": TAG_FIELDS,
}
PRECISIONS: tuple[Precision, ...] = ("auto", "float32", "bfloat16", "int8")
# Whether a worker has the device is seen there; a driver need not have it.
_DEVICE = re.compile(r"(cpu|cuda|mps|xpu)(:\d+)?")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class LabelOptions:
    """How labels are decided, in place of what their label set says; None keeps that.

    Raises ConfigError for a value that a label set can't have.
    """

    threshold: float | None = None
    multi_label: bool | None = None
    top_k: int | None = None

    def __post_init__(self) -> None:
        if self.threshold is not None:
            check_threshold(self.threshold)
        if self.multi_label is not None:
            check_multi_label(self.multi_label)
        if self.top_k is not None:
            check_top_k(self.top_k)

    def label_set(self, labels: LabelSet | Sequence[str] | Tree) -> LabelSet:
        """Return the label set of these labels, with the options in place of its own. Raises LabelSetError.

        A label with a threshold of its own keeps it.
        """
        label_set = LabelSet.coerce(labels)
        changes: dict[str, Any] = {}
        if self.threshold is not None:
            changes["threshold"] = float(self.threshold)
        if self.multi_label is not None:
            changes["multi_label"] = self.multi_label
        if self.top_k is not None:
            changes["top_k"] = int(self.top_k)
        return label_set.model_copy(update=changes) if changes else label_set


def check_threshold(value: Any) -> None:
    """Raise ConfigError unless the value is a probability."""
    if isinstance(value, bool) or not isinstance(value, Real) or not 0 <= float(value) <= 1:
        raise ConfigError(
            f"threshold must be a number from 0 to 1, found {value!r}; give the score from which a label is assigned, "
            "such as 0.5"
        )


def check_multi_label(value: Any, name: str = "multi_label") -> None:
    """Raise ConfigError unless the value of the parameter `name` is True or False."""
    if not isinstance(value, bool):
        raise ConfigError(
            f"{name} must be True or False, found {value!r}; give False for labels of which exactly one is right"
        )


def check_top_k(value: Any, name: str = "top_k") -> None:
    """Raise ConfigError unless the value of the parameter `name` is a positive whole number."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ConfigError(
            f"{name} must be a whole number from 1 on, found {value!r}; give the number of labels a text may have at "
            "most, or leave it out"
        )


def check_model(value: Any) -> None:
    """Raise ConfigError unless the value is a text that is not empty, or a model that was resolved already."""
    if not isinstance(value, ModelRef) and (not isinstance(value, str) or not value):
        raise ConfigError(
            f"model must be a model URI, found {value!r}; give a text such as 'embedded', './folder' or "
            "'org/name@revision'"
        )


def check_digest(value: Any) -> None:
    """Raise ConfigError unless the value is a SHA-256 in hexadecimal."""
    if not isinstance(value, str) or not _DIGEST.fullmatch(value):
        raise ConfigError(f"modelDigest must be 64 hexadecimal digits, found {value!r}; leave it out, `save` adds it")


def check_output(value: Any) -> None:
    """Raise ConfigError unless the value is the name of an output."""
    if not isinstance(value, str) or value not in OUTPUT_TYPES:
        raise ConfigError(f"output {value!r} is unknown; use one of {', '.join(OUTPUT_TYPES)}")


def check_device(value: Any) -> None:
    """Raise ConfigError unless the value has the form of a device's name."""
    if not isinstance(value, str) or not _DEVICE.fullmatch(value):
        raise ConfigError(
            f'device {value!r} is unknown; use "cpu", "cuda" or "cuda:0", or leave it out to take the GPU that Spark '
            "assigned, if there is one"
        )


def check_precision(value: Any) -> None:
    """Raise ConfigError unless the value is the name of a precision."""
    if value not in PRECISIONS:
        raise ConfigError(f"precision {value!r} is unknown; use one of {', '.join(PRECISIONS)}")
