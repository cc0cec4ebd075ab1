"""Temperatures and biases fit probabilities, thresholds fit decisions, and all are part of the label set."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from gliclass_spark.errors import LabelSetError, TrainingError
from gliclass_spark.inference.calibration import (
    Ridge,
    fit_calibration,
    mean_label_error,
    reliability,
)
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


def test_each_labels_bias_undoes_the_shift_of_its_logits() -> None:
    logits, truth = drawn(20_000)
    shift = np.array([4.0, -1.0], dtype=np.float32)
    fitted = fit_calibration(TWO, logits + shift, truth)
    assert fitted.biases == pytest.approx(-shift / np.array(SCALES), abs=0.1)
    assert fitted.temperatures == pytest.approx(SCALES, rel=0.05)


def test_scores_that_all_lie_above_one_half_are_calibrated_too() -> None:
    """No temperature alone can do that: it moves no score across one half."""
    rng = np.random.default_rng(0)
    logits = rng.normal(3, 0.5, (4000, 2)).astype(np.float32)
    truth = rng.random((4000, 2)) < 0.1
    scores = probabilities(logits, fit_calibration(TWO, logits[:2000], truth[:2000]))
    assert reliability(scores, truth).error < 0.03
    assert mean_label_error(scores, truth) < 0.03


def test_a_label_with_few_texts_stays_close_to_the_set() -> None:
    """One label of ten has logits of another scale: its temperature follows them as far as there are texts."""

    def relative_slope(texts: int, seed: int = 0) -> float:
        rng = np.random.default_rng(seed)
        logits = rng.normal(0, 1.5, (texts, 10))
        truth = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
        logits[:, 0] *= 4
        fitted = fit_calibration(LabelSet.of(*"abcdefghij"), logits.astype(np.float32), truth)
        assert fitted.temperature is not None
        return fitted.temperature / fitted.temperatures[0]

    assert relative_slope(4000) < 0.4
    assert 0.6 < np.median([relative_slope(5, seed) for seed in range(20)]) < 1.1


def test_the_fit_is_the_minimum_of_the_convex_loss_and_always_the_same() -> None:
    logits, truth = drawn(300)
    fitted = fit_calibration(TWO, logits, truth)
    assert fit_calibration(TWO, logits, truth) == fitted

    def loss(temperature: float, bias: float) -> float:
        shared = logits[:, 0].astype(np.float64) / fitted.temperature + fitted.bias
        slope = fitted.temperature / temperature
        offset = bias - slope * fitted.bias
        scaled = shared * slope + offset
        log_loss = np.logaddexp(0, np.where(truth[:, 0], -scaled, scaled)).sum()
        return float(log_loss + Ridge().slope * (slope - 1) ** 2 + Ridge().bias * offset**2)

    best = (fitted.temperatures[0], fitted.biases[0])
    for change in (0.98, 1.02):
        assert loss(best[0] * change, best[1]) > loss(*best)
        assert loss(best[0], best[1] + change - 1) > loss(*best)


def test_a_single_label_set_has_one_temperature_and_a_bias_for_each_label() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1.5, (5000, 3))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    truth = np.eye(3, dtype=bool)[[rng.choice(3, p=share) for share in shares]]
    label_set = LabelSet.of("a", "b", "c", multi_label=False)
    fitted = fit_calibration(label_set, (2 * logits + [0.0, 2.0, -2.0]).astype(np.float32), truth)
    assert fitted.temperature == pytest.approx(2.0, rel=0.1)
    assert all(label.temperature is None for label in fitted.labels)
    assert np.subtract(fitted.biases, fitted.biases[0]) == pytest.approx([0.0, -1.0, 1.0], abs=0.15)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(st.integers(-4, 4), st.booleans()), min_size=2, max_size=20))
def test_no_other_threshold_has_a_better_f1(pairs: list[tuple[int, bool]]) -> None:
    logits = np.array([[logit, -logit] for logit, _ in pairs], dtype=np.float32)
    truth = np.array([[right, not right] for _, right in pairs])
    if truth[:, 0].all() or not truth[:, 0].any():
        return
    fitted = fit_calibration(TWO, logits, truth)
    scores = probabilities(logits, fitted)
    for column, threshold in enumerate(fitted.thresholds):
        f1 = f1_score(truth[:, column], scores[:, column] >= threshold)
        f1_of_other_cuts = [f1_score(truth[:, column], scores[:, column] >= cut) for cut in scores[:, column]]
        assert f1 == max(f1_of_other_cuts)


@pytest.mark.parametrize("always", [False, True])
def test_a_label_that_no_text_or_every_text_has_keeps_its_threshold(always: bool) -> None:
    label_set = LabelSet.of("spam", "invoice", Label(name="constant", threshold=0.7))
    logits, truth = drawn(200)
    wide = np.column_stack([logits, logits[:, 0]])
    fitted = fit_calibration(label_set, wide, np.column_stack([truth, np.full(200, always)]))
    assert fitted.thresholds[2] == 0.7
    mean_score = float(probabilities(wide, fitted)[:, 2].mean())
    assert mean_score > 0.95 if always else mean_score < 0.05


def test_a_label_whose_logits_say_the_opposite_gets_a_flat_score() -> None:
    logits, truth = drawn(2000)
    fitted = fit_calibration(TWO, -logits, truth)
    assert all(temperature > 0 for temperature in fitted.temperatures)
    scores = probabilities(-logits, fitted)
    assert scores.std(axis=0).max() < 0.2
    assert scores.mean(axis=0) == pytest.approx(truth.mean(axis=0), abs=0.05)


def test_separable_texts_have_finite_temperatures_and_biases() -> None:
    logits = np.array([[5.0, -5.0], [4.0, -6.0], [-5.0, 5.0]], dtype=np.float32)
    fitted = fit_calibration(TWO, logits, logits > 0)
    assert np.isfinite([*fitted.temperatures, *fitted.biases]).all()
    assert LabelSet.from_json(fitted.canonical_json) == fitted


def test_texts_of_one_label_alone_are_refused() -> None:
    logits, truth = drawn(10)
    truth[:, 0] = True
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
