"""Packed rows: attention within rows one after another, as on a GPU, with torch's attention replaced by a plain one."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_models import PUBLISHED, Reference
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.varlen import varlen_attn
from transformers import AutoConfig, AutoModel

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.kernels import fast_encoder as fast_encoder_module
from gliclass_spark.inference.kernels.fast_encoder import fast_bert, fast_encoder
from gliclass_spark.inference.kernels.linear import ConcatenatedLinear
from gliclass_spark.inference.kernels.packed_attention import (
    KernelError,
    packed_attention,
    packed_disentangled_attention,
)
from gliclass_spark.inference.kernels.packed_bert import packed_bert
from gliclass_spark.inference.kernels.packed_deberta import packed_deberta
from gliclass_spark.inference.kernels.packed_modernbert import packed_modernbert
from gliclass_spark.inference.runners.runner import runner_for
from gliclass_spark.labels import LabelSet
from gliclass_spark.model import checkpoint
from gliclass_spark.model.checkpoint import Checkpoint
from gliclass_spark.model.encoders.token_rows import TokenRows

LABELS = LabelSet.of("sport", "machine learning", "web")
TEXTS = [
    "spark table",
    "deep river " * 20,
    "Zürich",
    "a goal in the last minute",
    "deep water and a river " * 60,
    "web",
]
BACKBONES = ("bert", "modernbert", "deberta-v2")
LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=8)
SHAPE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
VOCABULARY = 100
SPECIAL_TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "cls_token_id": 1, "eos_token_id": 2, "sep_token_id": 2}
OF_BACKBONE: dict[str, dict[str, Any]] = {
    "bert": SPECIAL_TOKENS,
    "modernbert": {**SPECIAL_TOKENS, "local_attention": 8},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 16},
}


def plain_varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seq_q: Tensor,
    cu_seq_k: Tensor,
    max_q: int,
    max_k: int,
    *,
    window_size: tuple[int, int] = (-1, -1),
) -> Tensor:
    """What torch.nn.attention.varlen.varlen_attn computes, row by row; refuses what its kernels would misread."""
    assert cu_seq_q.dtype is cu_seq_k.dtype is torch.int32
    assert query.stride(-1) == key.stride(-1) == value.stride(-1) == 1
    bounds = cu_seq_q.tolist()
    assert bounds[0] == 0
    assert bounds[-1] == len(query), "torch's kernels leave the tokens behind the last row undefined"
    assert max(stop - start for start, stop in pairwise(bounds)) <= min(max_q, max_k)
    rows = []
    for start, stop in pairwise(bounds):
        parts = (part[start:stop].transpose(0, 1) for part in (query, key, value))
        distance = torch.arange(stop - start) - torch.arange(stop - start)[:, None]
        left, right = (stop if size < 0 else size for size in window_size)
        mask = (distance >= -left) & (distance <= right)
        rows.append(functional.scaled_dot_product_attention(*parts, attn_mask=mask).transpose(0, 1))
    return torch.cat(rows)


def plain_disentangled(
    projected: Tensor,
    boundaries: Tensor,
    max_tokens: int,
    heads: int,
    scale: float,
    c2p: Tensor | None,
    p2c: Tensor | None,
    indices: Tensor,
) -> Tensor:
    """What the Triton kernel computes, row by row; refuses what it would misread."""
    assert boundaries.dtype is indices.dtype is torch.int32
    assert all(part is None or part.is_contiguous() for part in (projected, boundaries, c2p, p2c, indices))
    bounds = boundaries.tolist()
    assert (bounds[0], bounds[-1]) == (0, len(projected))
    assert max(stop - start for start, stop in pairwise(bounds)) <= max_tokens <= len(indices) // 2 + 1
    rows = []
    for start, stop in pairwise(bounds):
        query, key, value = projected[start:stop].view(stop - start, 3, heads, -1).permute(1, 2, 0, 3)
        positions = torch.arange(stop - start)
        index = indices[len(indices) // 2 - positions[:, None] + positions].long().expand(heads, -1, -1)
        logits = query @ key.transpose(1, 2) * scale
        if c2p is not None:
            logits = logits + c2p[:, start:stop].gather(2, index)
        if p2c is not None:
            logits = logits + p2c[:, start:stop].gather(2, index.transpose(1, 2)).transpose(1, 2)
        rows.append((logits.softmax(-1) @ value).transpose(0, 1).flatten(1))
    return torch.cat(rows)


def without_window(*arguments: Any) -> Tensor:
    """The attention of torch 2.10, which has no windows."""
    return plain_varlen(*arguments)


def that_ignores_the_window(*arguments: Any, **window: Any) -> Tensor:
    return plain_varlen(*arguments)


def without_position_to_content(*arguments: Any) -> Tensor:
    return plain_disentangled(*arguments[:6], None, arguments[7])


def that_does_not_compile(*arguments: Any) -> Tensor:
    raise KernelError("Triton 3.9.0: PTXASError: ptxas died")


def as_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
    varlen: Callable[..., Any] = plain_varlen,
    disentangled: Callable[..., Any] = plain_disentangled,
) -> None:
    monkeypatch.setattr(fast_encoder_module, "packed_attention", lambda device, dtype: varlen)
    monkeypatch.setattr(fast_encoder_module, "packed_disentangled_attention", lambda device, dtype: disentangled)


def padded(lengths: Sequence[int], seed: int = 1) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    input_ids = torch.randint(3, VOCABULARY, (len(lengths), max(lengths)), generator=generator)
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).long()
    return input_ids * mask, mask


def random_encoder(backbone: str, **changes: Any) -> Any:
    shape = {**SHAPE, **OF_BACKBONE[backbone], **changes}
    config = AutoConfig.for_model(backbone, **shape, vocab_size=VOCABULARY)
    torch.manual_seed(0)
    encoder = AutoModel.from_config(config).eval()
    for weight in encoder.parameters():
        weight.data = 0.2 * torch.randn(weight.shape) if weight.dim() > 1 else 1 + 0.1 * torch.randn(weight.shape)
    return encoder


def packed(encoder: Any) -> Any:
    with torch.no_grad():
        return (
            packed_bert(encoder, ConcatenatedLinear, plain_varlen)
            or packed_modernbert(encoder, ConcatenatedLinear, plain_varlen)
            or packed_deberta(encoder, ConcatenatedLinear, plain_disentangled)
        )


ENCODERS = {backbone: random_encoder(backbone) for backbone in BACKBONES}


class TestLayout:
    """Tokens, positions and boundaries of a batch whose padding is left out."""

    @given(LENGTHS, st.booleans())
    def test_rows_stand_one_after_another_in_their_order(self, lengths: list[int], counted: bool) -> None:
        input_ids, mask = padded(lengths)
        rows = TokenRows.packed(input_ids, mask, sum(lengths) if counted else None)
        tokens = [row[:length] for row, length in zip(input_ids, lengths, strict=True)]
        assert rows.input_ids.tolist() == torch.cat(tokens).tolist()
        assert rows.positions.tolist() == [position for length in lengths for position in range(length)]
        assert rows.boundaries is not None
        assert rows.boundaries.dtype is torch.int32
        assert rows.boundaries.tolist() == np.cumsum([0, *lengths]).tolist()
        assert rows.shape == input_ids.shape

    @given(LENGTHS)
    def test_values_of_a_padded_batch_come_back_to_their_places_with_zeros_for_padding(
        self, lengths: list[int]
    ) -> None:
        input_ids, mask = padded(lengths)
        values = torch.randn(*input_ids.shape, 3)
        rows = TokenRows.packed(input_ids, mask, sum(lengths))
        picked = rows.picked(values)
        assert picked.shape == (sum(lengths), 3)
        torch.testing.assert_close(rows.padded(picked), values * mask[..., None], rtol=0, atol=0)

    @given(LENGTHS)
    def test_a_known_number_of_tokens_tells_whether_there_is_padding(self, lengths: list[int]) -> None:
        input_ids, mask = padded(lengths)
        for count in (sum(lengths), None):
            [group] = TokenRows.with_padding(input_ids, mask, count).groups
            assert (group.padding is None) == (len(set(lengths)) == 1)


class TestStates:
    """The states are those of transformers for each row alone."""

    @pytest.mark.parametrize("backbone", BACKBONES)
    @settings(deadline=None, max_examples=25)
    @given(lengths=LENGTHS)
    def test_every_row_has_the_states_that_it_has_alone(self, backbone: str, lengths: list[int]) -> None:
        input_ids, mask = padded(lengths)
        encoder = ENCODERS[backbone]
        with torch.inference_mode():
            states = packed(encoder)(input_ids, mask, token_count=sum(lengths))
            for row, length in enumerate(lengths):
                own = input_ids[row : row + 1, :length]
                expected = encoder(input_ids=own, attention_mask=torch.ones_like(own)).last_hidden_state[0]
                torch.testing.assert_close(states[row, :length], expected, atol=1e-5, rtol=0)
                assert not states[row, length:].any()

    @pytest.mark.parametrize(
        "changes",
        [
            pytest.param({"local_attention": 2}, id="a window of one token"),
            pytest.param({"local_attention": 60}, id="a window of most of a row"),
            pytest.param({"local_attention": 1000}, id="a window beyond every row"),
            pytest.param({"layer_types": ["sliding_attention"] * 3}, id="only local"),
            pytest.param({"layer_types": ["full_attention"] * 3}, id="only global"),
            pytest.param({"num_attention_heads": 1}, id="one head"),
        ],
    )
    def test_every_window_of_a_modernbert_has_the_states_of_transformers(self, changes: dict[str, Any]) -> None:
        lengths = [150, 70, 70, 3, 1]
        input_ids, mask = padded(lengths)
        encoder = random_encoder("modernbert", **changes)
        with torch.inference_mode():
            states = packed(encoder)(input_ids, mask)
            for row, length in enumerate(lengths):
                own = input_ids[row : row + 1, :length]
                expected = encoder(input_ids=own, attention_mask=torch.ones_like(own)).last_hidden_state[0]
                torch.testing.assert_close(states[row, :length], expected, atol=1e-5, rtol=0)

    @pytest.mark.parametrize("backbone", BACKBONES)
    def test_embeddings_in_the_place_of_token_ids_are_encoded(self, backbone: str) -> None:
        input_ids, mask = padded([9, 30, 1])
        encoder = ENCODERS[backbone]
        with torch.inference_mode():
            encode = packed(encoder)
            words = encoder.get_input_embeddings()(input_ids)
            of_words = encode(torch.zeros_like(input_ids), mask, words)
            torch.testing.assert_close(of_words, encode(input_ids, mask), atol=1e-6, rtol=0)

    @pytest.mark.parametrize("precision", ["float32", "bfloat16"])
    @pytest.mark.parametrize("backbone", BACKBONES)
    def test_an_engine_has_the_scores_that_it_has_with_padding(
        self,
        backbone: str,
        precision: str,
        reference: Callable[..., Reference],
        engine: Callable[..., Engine],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        head = PUBLISHED["base-v3"][1]
        expected = engine(backbone, precision="float32", **head).scores(TEXTS, LABELS)
        as_on_a_gpu(monkeypatch)
        model = loaded(reference, backbone, **head)
        unpadded = Engine(model, device="cpu", precision=precision, max_batch_tokens=10_000)  # type: ignore[arg-type]
        plain = plain_disentangled if backbone == "deberta-v2" else plain_varlen
        assert unpadded._runner._encode._varlen is plain  # type: ignore[attr-defined]
        tolerance = {"float32": 1e-5, "bfloat16": 2e-2}[precision]
        np.testing.assert_allclose(unpadded.scores(TEXTS, LABELS), expected, atol=tolerance, rtol=0)
        alone = np.concatenate([unpadded.scores([text], LABELS) for text in TEXTS])
        np.testing.assert_allclose(unpadded.scores(TEXTS, LABELS), alone, atol=tolerance, rtol=0)

    def test_the_embedded_model_has_its_scores(self, monkeypatch: pytest.MonkeyPatch) -> None:
        expected = Engine.from_pretrained(device="cpu", precision="float32").scores(TEXTS, LABELS)
        as_on_a_gpu(monkeypatch)
        unpadded = Engine.from_pretrained(device="cpu", precision="float32", max_batch_tokens=10_000)
        assert unpadded._runner._bert._varlen is plain_varlen  # type: ignore[attr-defined]
        np.testing.assert_allclose(unpadded.scores(TEXTS, LABELS), expected, atol=1e-5, rtol=0)


class TestChoice:
    """Packed attention is used where it runs and agrees; the next best path is one line in the log."""

    def test_a_processor_has_none(self) -> None:
        assert packed_attention(torch.device("cpu"), torch.bfloat16) is None
        assert packed_disentangled_attention(torch.device("cpu"), torch.bfloat16) is None

    @pytest.mark.parametrize(
        ("capability", "dtype", "expected"),
        [
            ((9, 0), torch.bfloat16, True),
            ((8, 0), torch.bfloat16, True),
            ((9, 0), torch.float32, False),
            ((7, 5), torch.bfloat16, False),
        ],
    )
    def test_a_gpu_has_both_in_half_precision_from_ampere_on(
        self, capability: tuple[int, int], dtype: torch.dtype, expected: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
        assert (packed_attention(torch.device("cuda"), dtype) is not None) == expected
        assert (packed_disentangled_attention(torch.device("cuda"), dtype) is not None) == expected

    @pytest.mark.parametrize(
        "varlen",
        [
            pytest.param(varlen_attn, id="torch's own, which has no kernel here"),
            pytest.param(without_window, id="one without windows"),
            pytest.param(that_ignores_the_window, id="one whose windows have another meaning"),
        ],
    )
    def test_one_that_fails_or_differs_is_not_used_and_the_log_says_so(
        self, varlen: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        as_on_a_gpu(monkeypatch, varlen)
        with caplog.at_level(logging.WARNING):
            encode = fast_encoder(ENCODERS["modernbert"], "float32")
        assert encode is not None
        assert encode._varlen is None  # type: ignore[attr-defined]
        [record] = caplog.records
        assert record.getMessage().startswith("ModernBertModel runs more slowly, with padding: ")
        assert "\n" not in record.getMessage()

    def test_one_without_windows_serves_a_bert(self, monkeypatch: pytest.MonkeyPatch) -> None:
        as_on_a_gpu(monkeypatch, without_window)
        bert = fast_bert(ENCODERS["bert"], "float32")
        assert bert is not None
        assert bert._varlen is without_window

    @pytest.mark.parametrize(
        ("disentangled", "reason"),
        [
            pytest.param(that_does_not_compile, "fails in float32 (Triton 3.9.0: PTXASError: ptxas died)", id="fails"),
            pytest.param(without_position_to_content, "the states of the fast one differ by ", id="one without a term"),
        ],
    )
    def test_a_deberta_whose_kernel_fails_or_differs_is_computed_with_padding(
        self,
        disentangled: Callable[..., Any],
        reason: str,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        as_on_a_gpu(monkeypatch, disentangled=disentangled)
        assert_computed_with_padding(caplog, reason)

    def test_a_deberta_is_computed_with_padding_where_triton_is_missing(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setitem(sys.modules, "gliclass_spark.inference.kernels.disentangled_kernel", None)
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
        attention = packed_disentangled_attention(torch.device("cuda"), torch.bfloat16)
        assert attention is not None
        as_on_a_gpu(monkeypatch, disentangled=attention)
        assert_computed_with_padding(caplog, "the fast one fails in float32 (Triton can't be imported: ")

    def test_an_error_that_is_not_the_kernels_is_not_hidden(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def with_a_fault(*arguments: Any) -> Tensor:
            raise ZeroDivisionError

        as_on_a_gpu(monkeypatch, disentangled=with_a_fault)
        with pytest.raises(ZeroDivisionError):
            fast_encoder(ENCODERS["deberta-v2"], "float32")


def assert_computed_with_padding(caplog: pytest.LogCaptureFixture, reason: str) -> None:
    with caplog.at_level(logging.WARNING):
        encode = fast_encoder(ENCODERS["deberta-v2"], "float32")
    assert encode is not None
    assert encode._varlen is None  # type: ignore[attr-defined]
    [record] = caplog.records
    assert record.getMessage().startswith("DebertaV2Model runs more slowly, with padding: ")
    assert reason in record.getMessage()
    assert "\n" not in record.getMessage()


class TestNoWaiting:
    """On torch's meta device no value can be read: a pass that runs there never waits for a GPU.

    With torch's own packed attention, which checks its arguments there; for DeBERTa with a kernel that does nothing.
    """

    @pytest.mark.parametrize("head", ["base-v3", "modern-v3", "instruct-edge", "multilang-edge"])
    @pytest.mark.parametrize("backbone", BACKBONES)
    def test_a_uni_encoders_forward_pass_reads_nothing_from_the_device(
        self, backbone: str, head: str, reference: Callable[..., Reference], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = loaded(reference, backbone, **PUBLISHED[head][1])
        assert logits_on_meta(model, monkeypatch).shape == (3, len(LABELS))

    def test_the_embedded_models_forward_pass_reads_nothing_from_the_device(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = checkpoint.load(resolve_model("embedded"))
        assert logits_on_meta(model, monkeypatch).shape == (3, len(LABELS))

    @pytest.mark.parametrize("backbone", BACKBONES)
    def test_a_bi_encoders_forward_pass_reads_nothing_from_the_device(
        self, backbone: str, reference: Callable[..., Reference], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model = loaded(reference, backbone, architecture_type="bi-encoder", pooling_strategy="avg")
        assert logits_on_meta(model, monkeypatch).shape == (3, len(LABELS))


def logits_on_meta(model: Checkpoint, monkeypatch: pytest.MonkeyPatch) -> Tensor:
    """Run three texts of different lengths in bfloat16, by the passes that a GPU takes."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    varlen = packed_attention(torch.device("cuda"), torch.bfloat16)
    assert varlen is not None
    as_on_a_gpu(monkeypatch, varlen, lambda projected, *_: projected.new_empty(len(projected), projected.shape[1] // 3))
    monkeypatch.setattr(fast_encoder_module, "_DEVICES", ("meta",))
    monkeypatch.setattr(fast_encoder_module, "_first_that_agrees", first_that_is_made)
    device = torch.device("meta")
    with torch.inference_mode():
        runner = runner_for(model, device, "bfloat16")
        [frame] = runner.tokenizer.prompt(LABELS).frames
        lengths = [len(frame) + more for more in (1, 30, 200)]
        input_ids = torch.zeros(3, max(lengths), dtype=torch.long, device=device)
        return runner.logits(input_ids, torch.ones_like(input_ids), [frame] * 3, sum(lengths))


def first_that_is_made(builds: Sequence[Callable[[], Any]], *_: object) -> Any:
    """The choice without its comparison, which reads the states."""
    return next((encode for build in builds if (encode := build()) is not None), None)


def loaded(reference: Callable[..., Reference], backbone: str, **head: Any) -> Checkpoint:
    """A model of its own, which the test moves and rounds."""
    return checkpoint.load(resolve_model(str(reference(backbone, **head).folder)))
