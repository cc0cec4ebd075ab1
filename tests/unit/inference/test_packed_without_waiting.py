"""Forward passes over packed rows that never wait for a GPU."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from packed_encoders import (
    BACKBONES,
    LABELS,
    as_on_a_gpu,
    loaded,
)
from reference_models import PUBLISHED, Reference
from torch import Tensor

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.inference.kernels import fast_encoder as fast_encoder_module
from gliclass_spark.inference.kernels.packed_attention import (
    packed_attention,
)
from gliclass_spark.inference.runners.runner import runner_for
from gliclass_spark.model import checkpoint
from gliclass_spark.model.checkpoint import Checkpoint


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
