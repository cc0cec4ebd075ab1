"""Label sets: the labels that every text is scored for, with thresholds, prompt and examples."""

from gliclass_spark.labels.calibration_file import calibrated, read_calibration
from gliclass_spark.labels.example import MAX_EXAMPLE_CHARS, Example
from gliclass_spark.labels.label import MAX_DESCRIPTION_CHARS, MAX_NAME_CHARS, Label, Probability
from gliclass_spark.labels.label_set import DEFAULT_THRESHOLD, LabelSet, LongTexts
from gliclass_spark.labels.retrieved import Piece, RetrievedExample, retrieval_pieces, retrieval_text
from gliclass_spark.labels.tree import Tree

__all__ = [
    "DEFAULT_THRESHOLD",
    "MAX_DESCRIPTION_CHARS",
    "MAX_EXAMPLE_CHARS",
    "MAX_NAME_CHARS",
    "Example",
    "Label",
    "LabelSet",
    "LongTexts",
    "Piece",
    "Probability",
    "RetrievedExample",
    "Tree",
    "calibrated",
    "read_calibration",
    "retrieval_pieces",
    "retrieval_text",
]
