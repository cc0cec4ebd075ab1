"""The scorer's scale and offset, fitted to questions with known answers."""

from __future__ import annotations

import numpy as np
import pytest

from devtools.scorer_calibration import Question, draw_questions, fit, rescale
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.inference.engine import Engine
from gliclass_spark.model import checkpoint
from gliclass_spark.model.architectures.label_cached import LabelCachedModel
from gliclass_spark.training.data.labelled_text import LabelledSet

ANIMALS = LabelledSet("animals", ("cat", "dog", "owl"), ("a cat", "a dog", "an owl"), ((0,), (1,), (2,)))


def test_precision_equals_recall_at_half_and_the_softmax_has_the_right_temperature() -> None:
    rng = np.random.default_rng(0)
    drawn = []
    for _ in range(80):
        logits = rng.normal(loc=3.0, size=(32, 6))
        best = (2.0 * logits + rng.gumbel(size=logits.shape)).argmax(axis=1)  # drawn from the softmax of 2 x
        drawn.append(Question(logits, np.eye(6)[best]))
    slope, offset = fit(drawn)
    assert slope == pytest.approx(2.0, abs=0.15)
    given = np.concatenate([slope * question.logits + offset >= 0 for question in drawn])
    true = np.concatenate([question.truth > 0 for question in drawn])
    right = (given & true).sum()
    assert right / given.sum() == pytest.approx(right / true.sum())
    again = fit([Question(slope * question.logits + offset, question.truth) for question in drawn])
    assert again == pytest.approx((1.0, 0.0), abs=1e-3)


def test_a_rescaled_model_has_the_rescaled_logits(tiny_label_cached_model: str) -> None:
    loaded = checkpoint.load(resolve_model(tiny_label_cached_model))
    before = draw_questions(Engine(loaded, precision="float32"), [ANIMALS], count=3, seed=1)
    assert isinstance(loaded.model, LabelCachedModel)
    rescale(loaded.model, 2.0, -1.5)
    after = draw_questions(Engine(loaded, precision="float32"), [ANIMALS], count=3, seed=1)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_allclose(other.logits, 2.0 * one.logits - 1.5, rtol=0, atol=1e-4)
        np.testing.assert_array_equal(other.truth, one.truth)
        assert one.truth.any(axis=1).all()
