"""Packed rows: attention within rows one after another, as on a GPU, with torch's attention replaced by a plain one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from packed_encoders import (
    BACKBONES,
    ENCODERS,
    LABELS,
    as_on_a_gpu,
    loaded,
    packed,
    padded,
    plain_disentangled,
    plain_varlen,
    random_encoder,
)
from reference_models import PUBLISHED, Reference

from gliclass_spark.inference.engine import Engine
from gliclass_spark.model.encoders.token_rows import TokenRows

TEXTS = [
    "spark table",
    "deep river " * 20,
    "Zürich",
    "a goal in the last minute",
    "deep water and a river " * 60,
    "web",
]
LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=8)


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
