"""Which architectures can be trained."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from reference_models import Reference

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import TrainingError
from gliclass_spark.model import checkpoint
from gliclass_spark.training.data.batches import TrainingBatch
from gliclass_spark.training.evaluation.baselines import similarity_checkpoint
from gliclass_spark.training.forward_pass import require_trainable, trainable_model


@pytest.mark.parametrize(
    ("backbone", "architecture"),
    [
        ("bert", "bi-encoder"),
        ("bert", "bi-encoder-fused"),
        ("t5", "encoder-decoder"),
        ("t5", "encoder-decoder-cls"),
    ],
)
def test_a_model_for_inference_only_is_refused_by_its_architecture(
    backbone: str, architecture: str, reference: Callable[..., Reference]
) -> None:
    folder = str(reference(backbone, architecture_type=architecture).folder)
    loaded = checkpoint.load(resolve_model(folder))
    for refused in (lambda: trainable_model(loaded.model, loaded.tokenizer, 64), lambda: similarity_checkpoint(folder)):
        with pytest.raises(TrainingError) as error:
            refused()
        assert str(error.value) == (
            f"a model of the architecture_type {architecture!r} can be used for inference, but not be "
            "trained; train a 'uni-encoder' or a 'label-cached' one"
        )


def test_a_uni_encoder_can_be_trained_with_any_encoder(reference: Callable[..., Reference]) -> None:
    model = checkpoint.load(resolve_model(str(reference("t5").folder))).model
    assert require_trainable(model) is model


@pytest.mark.parametrize("full_window", [False, True])
def test_texts_are_truncated_at_the_given_tokens_or_at_the_window(
    tiny_label_cached_model: str, full_window: bool
) -> None:
    loaded = checkpoint.load(resolve_model(tiny_label_cached_model))
    targets = np.ones((1, 2), dtype=np.float32)
    batch = TrainingBatch(("a cat " * 600,), ("cat", "dog"), targets, full_window=full_window)
    tokens = trainable_model(loaded.model, loaded.tokenizer, 16).inputs(batch)["input_ids"].shape[1]
    assert tokens == 512 if full_window else 16 < tokens < 24
