"""A shadow run: where another model's tags differ from those of a run."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import fsspec

from gliclass_spark.config.catalog import folder_of
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.runs.delta_reader import StorageOptions, object_store_uri
from gliclass_spark.runs.file_names import file_name

# Of the differences of scores, which are in [-1, 1].
DIFFERENCE_BINS = 20


@dataclass(frozen=True)
class LabelDifference:
    """One label: the documents that each of the two models gives it to, those that one alone does, and the mean
    difference of its scores, other model - run's model.
    """

    label: str
    tagged: int
    shadow: int
    only_tagged: int
    only_shadow: int
    mean_difference: float


@dataclass(frozen=True)
class DecisionChange:
    """Documents whose outcome would change. before, now: the outcomes, such as "kept, to complaints"."""

    before: str
    now: str
    documents: int


@dataclass(frozen=True)
class DifferingDocument:
    """A document to which the models give different labels. difference: the largest one of its scores."""

    doc_id: str
    text: str
    tagged: tuple[str, ...]
    shadow: tuple[str, ...]
    difference: float


@dataclass(frozen=True)
class ShadowComparison:
    """Where the tags of `model` differ from those of the run, on the same texts.

    tagged_by: digest of the model that tagged in the run. documents: how many were compared; explored ones, and those
    that changed since, are left out. same_labels: of these, those with equal labels. errors: documents that the other
    model could not score. differences: its scores minus the run's, in DIFFERENCE_BINS equal parts of [-1, 1]. labels:
    by the number of documents that change. decisions: empty for a pipeline that only tags. examples: those that differ
    most.
    """

    run_id: str
    model: str
    model_digest: str
    tagged_by: str
    documents: int
    same_labels: int
    errors: int
    labels: tuple[LabelDifference, ...]
    differences: tuple[int, ...]
    decisions: tuple[DecisionChange, ...] = ()
    examples: tuple[DifferingDocument, ...] = ()

    def to_json(self) -> str:
        """Return the comparison as JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ShadowComparison:
        """Return the comparison that `to_json` has written."""
        fields: dict[str, Any] = json.loads(text)
        examples = [{**row, **{name: tuple(row[name]) for name in ("tagged", "shadow")}} for row in fields["examples"]]
        return cls(
            **{
                **fields,
                "labels": tuple(LabelDifference(**row) for row in fields["labels"]),
                "differences": tuple(fields["differences"]),
                "decisions": tuple(DecisionChange(**row) for row in fields["decisions"]),
                "examples": tuple(DifferingDocument(**row) for row in examples),
            }
        )


def comparison_path(pipeline: Pipeline, run_id: str) -> str | None:
    """Return the path or URI of a run's comparison, beside its report; None if the catalog alone knows the folder."""
    folder = folder_of(pipeline.tables)
    return f"{folder}/reports/{file_name(run_id)}-shadow.json" if folder is not None else None


def read_comparison(pipeline: Pipeline, run_id: str, storage_options: StorageOptions = None) -> ShadowComparison | None:
    """Return the comparison of a run's latest shadow run, None if there was none."""
    path = comparison_path(pipeline, run_id)
    if path is None:
        return None
    try:
        with fsspec.open(object_store_uri(path), "r", encoding="utf-8", **(storage_options or {})) as file:
            return ShadowComparison.from_json(file.read())
    except FileNotFoundError:
        return None
