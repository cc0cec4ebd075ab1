"""Calibration files: the temperatures, biases and thresholds that come with a model's weights."""

from __future__ import annotations

from pathlib import Path

from gliclass_spark.labels.label_set import LabelSet


def read_calibration(file: Path, label_set: LabelSet) -> LabelSet | None:
    """Return the label set in a model's calibration file; None without one, or if it asks another question.

    Raises LabelSetError for a file that can't be read.
    """
    if not file.is_file():
        return None
    calibration = LabelSet.from_yaml(file)
    return calibration if calibration.question_hash == label_set.question_hash else None


def calibrated(label_set: LabelSet, file: Path) -> LabelSet:
    """Return the label set with the values of a model's calibration file, or as it is if the file has none for it.

    Raises LabelSetError for a file that can't be read.
    """
    calibration = read_calibration(file, label_set)
    return label_set if calibration is None else label_set.calibrated_by(calibration)
