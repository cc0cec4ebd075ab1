"""The fast forward passes give the states of transformers' own, for every variant of a backbone, or are not used."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from reference_cells import BACKBONES
from reference_models import PUBLISHED, Reference
from torch import Tensor
from transformers import AutoConfig, AutoModel

from gliclass_spark.inference.device import ModelPrecision
from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.kernels.fast_encoder import fast_encoder
from gliclass_spark.inference.kernels.linear import ConcatenatedLinear, PackedLinear
from gliclass_spark.inference.kernels.packed_deberta import PackedDeberta, packed_deberta
from gliclass_spark.inference.kernels.packed_modernbert import PackedModernBert, packed_modernbert
from gliclass_spark.labels import LabelSet
from gliclass_spark.model.encoders.token_rows import TokenRows

TOLERANCE = 1e-5  # between two features of size 1, float32
VOCABULARY = 100
# Longer than several blocks of local attention, and than the distances that have a bucket of their own.
LENGTHS = [300, 300, 129, 64, 17, 1]
DEBERTA: dict[str, dict[str, Any]] = {
    "v3": {"position_biased_input": False, "type_vocab_size": 0},
    "absolute positions and types": {"type_vocab_size": 2},
    "keys of their own": {"share_att_key": False},
    "c2p": {"pos_att_type": ["c2p"]},
    "p2c": {"pos_att_type": ["p2c"]},
    "p2c with projections of its own": {"pos_att_type": "p2c", "share_att_key": False},
    "no terms": {"pos_att_type": []},
    "no relative attention": {"relative_attention": False},
    "no buckets": {"position_buckets": -1, "max_relative_positions": 24},
    "as many embeddings as positions": {"position_buckets": -1},
    "buckets of a short range": {"max_relative_positions": 40},
    "embeddings not normalized": {"norm_rel_ebd": "none"},
    "small word embeddings": {"embedding_size": 16},
    "one head": {"num_attention_heads": 1},
}
MODERNBERT: dict[str, dict[str, Any]] = {
    "as published": {},
    "a window of one token": {"local_attention": 2},
    "a window beyond a block": {"local_attention": 180},
    "a window beyond the text": {"local_attention": 1000},
    "only local": {"layer_types": ["sliding_attention"] * 2},
    "only global": {"layer_types": ["full_attention"] * 2},
    "biases": {"attention_bias": True, "mlp_bias": True, "norm_bias": True},
    "other frequencies": {"global_rope_theta": 500.0, "local_rope_theta": 50.0},
    "one head": {"num_attention_heads": 1},
}
VARIANTS = [
    *(pytest.param("deberta-v2", changes, id=f"deberta-v2, {name}") for name, changes in DEBERTA.items()),
    *(pytest.param("modernbert", changes, id=f"modernbert, {name}") for name, changes in MODERNBERT.items()),
]
# Variants that the fast passes do not compute.
UNCOVERED = [
    pytest.param("deberta-v2", {"conv_kernel_size": 3}, id="deberta-v2, convolution"),
    pytest.param("deberta-v2", {"hidden_act": "relu"}, id="deberta-v2, relu"),
    pytest.param("modernbert", {"hidden_activation": "silu"}, id="modernbert, silu"),
    pytest.param(
        "modernbert",
        {"rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}}},
        id="modernbert, scaled rotation",
    ),
    pytest.param("electra", {}, id="electra"),
]
PRECISIONS: dict[ModelPrecision, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16}
PACKED = {"deberta-v2": packed_deberta, "modernbert": packed_modernbert}
SMALL_ELECTRA = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}


def random_encoder(backbone: str, changes: dict[str, Any], dtype: torch.dtype = torch.float32) -> Any:
    """An encoder with states of size 1, in which neighbours, distances and biases matter."""
    shape = {**BACKBONES.get(backbone, SMALL_ELECTRA), **changes, "vocab_size": VOCABULARY}
    if backbone == "modernbert":
        shape |= {"pad_token_id": 0, "bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2, "sep_token_id": 2}
    encoder = AutoModel.from_config(AutoConfig.for_model(backbone, **shape)).eval()
    generator = torch.Generator().manual_seed(0)
    for weight in encoder.parameters():
        noise = torch.randn(weight.shape, generator=generator)
        weight.data = 0.2 * noise if weight.dim() > 1 else 1 + 0.1 * noise
    return encoder.to(dtype)


def padded_batch(lengths: list[int]) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    input_ids = torch.randint(3, VOCABULARY, (len(lengths), max(lengths)), generator=generator)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return input_ids * mask, mask


@torch.inference_mode()
def states_alone(encoder: Any, input_ids: Tensor, mask: Tensor) -> list[Tensor]:
    """transformers' states of each row, unpadded and alone."""
    rows = [row[: int(length)][None] for row, length in zip(input_ids, mask.sum(dim=1), strict=True)]
    return [encoder(input_ids=row, attention_mask=torch.ones_like(row)).last_hidden_state[0] for row in rows]


def largest_difference(states: Tensor, expected: list[Tensor]) -> float:
    return max(float((row[: len(own)] - own).abs().max()) for row, own in zip(states, expected, strict=True))


@pytest.mark.parametrize(
    ("linear", "rows"),
    [
        pytest.param(PackedLinear, TokenRows.without_padding, id="as on a processor"),
        pytest.param(ConcatenatedLinear, TokenRows.with_padding, id="as on a GPU"),
    ],
)
@pytest.mark.parametrize(("backbone", "changes"), VARIANTS)
def test_every_variant_has_the_states_of_transformers_for_each_text_alone(
    backbone: str, changes: dict[str, Any], linear: Any, rows: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(TokenRows, "of", lambda input_ids, mask, _: rows(input_ids, mask))
    encoder = random_encoder(backbone, changes)
    input_ids, mask = padded_batch(LENGTHS)
    expected = states_alone(encoder, input_ids, mask)
    with torch.inference_mode():
        packed = PACKED[backbone](encoder, linear)
        assert packed is not None
        states = packed(input_ids, mask)
    assert torch.isfinite(states).all()
    assert largest_difference(states, expected) < TOLERANCE
    assert min(float(own.std()) for own in expected) > 0.3


@pytest.mark.parametrize(("backbone", "changes"), VARIANTS)
def test_every_variant_agrees_with_transformers_in_bfloat16(backbone: str, changes: dict[str, Any]) -> None:
    exact = random_encoder(backbone, changes)
    input_ids, mask = padded_batch(LENGTHS)
    expected = states_alone(exact, input_ids, mask)
    rounded = random_encoder(backbone, changes, torch.bfloat16)
    with torch.inference_mode():
        encode = PACKED[backbone](rounded, ConcatenatedLinear)
        assert encode is not None
        states = encode(input_ids, mask)
        plain = rounded(input_ids=input_ids, attention_mask=mask).last_hidden_state
    assert states.dtype is torch.bfloat16
    own, of_plain = (largest_difference(part.float(), expected) for part in (states, plain))
    assert own < 2 * of_plain


@pytest.mark.parametrize(("backbone", "changes"), UNCOVERED)
def test_another_variant_runs_by_its_own_forward_pass(
    backbone: str, changes: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert fast_encoder(random_encoder(backbone, changes), "float32") is None
    assert not caplog.records


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize(("backbone", "kind"), [("deberta-v2", PackedDeberta), ("modernbert", PackedModernBert)])
def test_a_fast_pass_that_agrees_is_used(
    backbone: str, kind: type, precision: ModelPrecision, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = random_encoder(backbone, {}, PRECISIONS[precision])
    assert isinstance(fast_encoder(encoder, precision), kind)
    assert not caplog.records


@pytest.mark.parametrize(("backbone", "kind"), [("deberta-v2", PackedDeberta), ("modernbert", PackedModernBert)])
def test_a_fast_pass_that_differs_is_not_used_and_the_log_says_so(
    backbone: str, kind: type, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    encoder = random_encoder(backbone, {})
    encode = kind.__call__
    # Of another word beside it.
    monkeypatch.setattr(kind, "__call__", lambda packed, ids, mask, **_: encode(packed, ids.roll(1, dims=1), mask))
    with caplog.at_level(logging.WARNING):
        assert fast_encoder(encoder, "float32") is None
    [record] = caplog.records
    assert record.getMessage().startswith(f"{type(encoder).__name__} runs slowly, by its plain forward pass: ")


@pytest.mark.parametrize(
    "head",
    [
        pytest.param({}, id="uni-encoder"),
        pytest.param({"use_segment_embeddings": True}, id="uni-encoder with segments"),
        pytest.param({"architecture_type": "bi-encoder", "pooling_strategy": "avg"}, id="bi-encoder"),
        pytest.param({"architecture_type": "bi-encoder-fused", "pooling_strategy": "avg"}, id="fused bi-encoder"),
    ],
)
@pytest.mark.parametrize(("backbone", "kind"), [("deberta-v2", PackedDeberta), ("modernbert", PackedModernBert)])
def test_the_engine_takes_the_fast_pass(
    backbone: str, kind: type, head: dict[str, Any], engine: Callable[..., Engine]
) -> None:
    assert isinstance(engine(backbone, **head)._runner._encode, kind)  # type: ignore[attr-defined]


def test_a_model_that_reads_another_layer_runs_by_transformers(engine: Callable[..., Engine]) -> None:
    assert engine("deberta-v2", encoder_layer_id=1)._runner._encode is None  # type: ignore[attr-defined]


@pytest.mark.parametrize("backbone", BACKBONES)
def test_a_long_text_among_short_ones_has_the_references_logits(
    backbone: str, reference: Callable[..., Reference], engine: Callable[..., Engine]
) -> None:
    labels = LabelSet.of("sport", "machine learning", "web")
    texts = ["spark", "deep water and a river " * 60, "a table", "deep river " * 20]
    of_reference = reference(backbone, **PUBLISHED["base-v3"][1])
    expected = [of_reference.logits(of_reference.input_ids(text, labels.texts)).tolist() for text in texts]
    logits = engine(backbone, **PUBLISHED["base-v3"][1]).logits(texts, labels)
    np.testing.assert_allclose(logits, expected, atol=TOLERANCE, rtol=0)
