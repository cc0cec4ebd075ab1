"""Calibration of a label set by values that come with a model, and the hash of what a label set asks."""

from __future__ import annotations

from pathlib import Path

import pytest

from gliclass_spark.errors import LabelSetError
from gliclass_spark.labels import Example, Label, LabelSet, calibrated, read_calibration

ASKED = LabelSet(name="mail", labels=(Label(name="spam", description="unwanted"), Label(name="invoice", threshold=0.7)))
FITTED = ASKED.model_copy(
    update={
        "name": "fitted",
        "labels": (
            Label(name="invoice", threshold=0.2, temperature=2.0, bias=0.5),
            Label(name="spam", description="unwanted", threshold=0.3, temperature=3.0),
        ),
    }
)


def test_values_of_the_calibration_are_taken_by_name_where_the_label_set_states_none() -> None:
    result = ASKED.calibrated_by(FITTED)
    assert result.names == ASKED.names
    assert result.thresholds == (0.3, 0.7)
    assert result.temperatures == (3.0, 2.0)
    assert result.biases == (0.0, 0.5)
    stated = ASKED.model_copy(update={"threshold": 0.9, "temperature": 1.5})
    assert stated.calibrated_by(FITTED).thresholds == (0.9, 0.7)
    assert stated.calibrated_by(FITTED).temperatures == (1.5, 1.5)
    assert stated.calibrated_by(FITTED).biases == (0.0, 0.5)


def test_thresholds_and_temperatures_change_the_hash_and_not_the_question() -> None:
    assert ASKED.calibrated_by(FITTED).question_hash == FITTED.question_hash == ASKED.question_hash
    assert len({ASKED.hash, FITTED.hash, ASKED.calibrated_by(FITTED).hash}) == 3
    other_questions = [
        ASKED.model_copy(update={"labels": (*ASKED.labels, Label(name="boat"))}),
        ASKED.model_copy(update={"labels": (Label(name="spam"), ASKED.labels[1])}),
        ASKED.model_copy(update={"multi_label": False}),
        ASKED.replace(prompt="What is this mail?"),
        ASKED.replace(examples=[Example(text="buy now", labels=("spam",))]),
    ]
    assert len({each.question_hash for each in (ASKED, *other_questions)}) == 6


def test_a_calibration_is_read_from_a_file_and_only_for_its_question(tmp_path: Path) -> None:
    file = tmp_path / "calibration.yaml"
    assert read_calibration(file, ASKED) is None
    assert calibrated(ASKED, file) is ASKED
    file.write_text(FITTED.to_yaml(), encoding="utf-8")
    assert read_calibration(file, ASKED) == FITTED
    assert calibrated(ASKED, file) == ASKED.calibrated_by(FITTED)
    other = LabelSet.of("else")
    assert read_calibration(file, other) is None
    assert calibrated(other, file) is other
    file.write_text("labels: 3\n", encoding="utf-8")
    with pytest.raises(LabelSetError, match=r"calibration.yaml"):
        calibrated(ASKED, file)
