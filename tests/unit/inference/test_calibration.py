"""Temperatures fit probabilities, thresholds fit decisions, and both are part of the label set."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from gliclass_spark.errors import LabelSetError, TrainingError
from gliclass_spark.inference.calibration import fit_calibration, reliability
from gliclass_spark.inference.results import FloatArray, probabilities
from gliclass_spark.labels import Label, LabelSet

TWO = LabelSet.of("spam", "invoice")
SCALES = (3.0, 0.5)  # factor of each label's logits


def drawn(rows: int, seed: int = 0) -> tuple[FloatArray, np.ndarray]:
    """Logits of a model that is overconfident in one label and underconfident in the other, and the truth."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (rows, 2))
    truth = rng.random((rows, 2)) < 1 / (1 + np.exp(-logits))
    return (logits * SCALES).astype(np.float32), truth


def test_each_labels_temperature_undoes_the_scale_of_its_logits() -> None:
    fitted = fit_calibration(TWO, *drawn(20_000))
    assert fitted.temperatures == pytest.approx(SCALES, rel=0.05)


def test_the_calibration_error_falls() -> None:
    logits, truth = drawn(20_000, seed=1)
    before = reliability(probabilities(logits, TWO), truth).error
    after = reliability(probabilities(logits, fit_calibration(TWO, *drawn(20_000))), truth).error
    assert before > 0.08
    assert after < 0.02


def test_a_label_with_few_texts_stays_close_to_the_shared_temperature() -> None:
    logits, truth = drawn(5000)
    few = np.zeros_like(truth)
    few[:, 0] = truth[:, 0]
    few[:4, 1] = True
    own, rare = fit_calibration(TWO, logits, few).temperatures
    assert abs(np.log(rare / own)) < abs(np.log(SCALES[1] / SCALES[0]))


def test_a_single_label_set_has_one_temperature() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (5000, 3))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.eye(3, dtype=bool)[[rng.choice(3, p=share) for share in shares]]
    label_set = LabelSet.of("a", "b", "c", multi_label=False)
    fitted = fit_calibration(label_set, (2 * logits).astype(np.float32), truth)
    assert fitted.temperature == pytest.approx(2.0, rel=0.1)
    assert all(label.temperature is None for label in fitted.labels)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=20))
def test_no_other_threshold_has_a_better_f1(pairs: list[tuple[int, bool]]) -> None:
    logits = np.array([[logit, -logit] for logit, _ in pairs], dtype=np.float32)
    truth = np.array([[right, not right] for _, right in pairs])
    if not truth[:, 0].any() or not truth[:, 1].any():
        return
    fitted = fit_calibration(TWO, logits, truth)
    scores = probabilities(logits, fitted)
    for column, threshold in enumerate(fitted.thresholds):
        f1 = f1_score(truth[:, column], scores[:, column] >= threshold)
        f1_of_other_cuts = [f1_score(truth[:, column], scores[:, column] >= cut) for cut in scores[:, column]]
        assert f1 == max(f1_of_other_cuts)


def test_a_label_without_texts_keeps_its_threshold() -> None:
    label_set = LabelSet.of("spam", "invoice", Label(name="unseen", threshold=0.7))
    logits, truth = drawn(200)
    wide = np.column_stack([logits, logits[:, 0]])
    fitted = fit_calibration(label_set, wide, np.column_stack([truth, np.zeros(200, dtype=bool)]))
    assert fitted.thresholds[2] == 0.7


def test_texts_of_one_label_alone_are_refused() -> None:
    logits, truth = drawn(10)
    truth[:, 1] = False
    with pytest.raises(TrainingError, match="fewer than two labels; give some of each label"):
        fit_calibration(TWO, logits, truth)


def test_the_calibration_error_is_the_papers_formula() -> None:
    scores = np.array([[0.9, 0.1], [0.8, 0.3], [0.95, 0.05]], dtype=np.float32)
    truth = np.array([[True, False], [False, True], [True, False]])
    # Two bins: below one half confidence 0.15 and accuracy 1/3, above it 0.8833 and 2/3.
    expected = 0.5 * abs(0.45 / 3 - 1 / 3) + 0.5 * abs(2.65 / 3 - 2 / 3)
    diagram = reliability(scores, truth, bins=2)
    assert diagram.error == pytest.approx(expected, abs=1e-6)
    assert diagram.counts.tolist() == [3, 3]


def test_a_prediction_of_weight_2_counts_as_two() -> None:
    scores = np.array([0.9, 0.2, 0.8, 0.4], dtype=np.float32)
    truth = np.array([True, False, False, True])
    twice = reliability(np.append(scores, scores[1:3]), np.append(truth, truth[1:3]), bins=2)
    weighted = reliability(scores, truth, bins=2, weights=np.array([1.0, 2.0, 2.0, 1.0]))
    assert weighted.counts.tolist() == twice.counts.tolist() == [3, 3]
    assert weighted.error == pytest.approx(twice.error)
    assert weighted.error != pytest.approx(reliability(scores, truth, bins=2).error)


def test_temperatures_are_part_of_the_label_set_and_its_hash() -> None:
    warm = TWO.model_copy(update={"temperature": 2.0})
    assert len({TWO.hash, warm.hash}) == 2
    assert LabelSet.from_json(warm.canonical_json) == warm
    own = LabelSet(labels=(Label(name="spam", temperature=4.0), Label(name="invoice")), temperature=2.0)
    np.testing.assert_allclose(
        probabilities(np.array([[4.0, 4.0]], dtype=np.float32), own), [[0.731059, 0.880797]], atol=1e-6
    )


@pytest.mark.parametrize("temperature", ["0", "-1.0", "Infinity", "NaN", '"2"'])
def test_a_temperature_is_a_positive_number(temperature: str) -> None:
    with pytest.raises(LabelSetError, match="temperature"):
        LabelSet.from_json(f'{{"labels": [{{"name": "spam", "temperature": {temperature}}}, {{"name": "invoice"}}]}}')
