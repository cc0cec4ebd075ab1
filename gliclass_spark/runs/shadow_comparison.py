"""A shadow run: where another model's tags differ from those of a run."""

from __future__ import annotations

from dataclasses import dataclass

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
