"""A batch that does not fit into the device's memory runs in halves; a text that does not fit alone is an error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from reference_models import Reference, with_model_class
from torch import Tensor

from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.results import OUT_OF_MEMORY
from gliclass_spark.labels import LabelSet
from gliclass_spark.model.architectures.uni_encoder import UniEncoderModel
from gliclass_spark.model.checkpoint import Checkpoint

LABELS = LabelSet.of("sport", "machine learning", "web")
PROMPT_TOKENS = 9  # [CLS] <<LABEL>> sport <<LABEL>> machine learning <<LABEL>> web <<SEP>> ... [SEP], less 1
TEXTS = ["spark", "deep water", "deep water and a river", "table", "a river in Zürich"]
ERRORS = {
    "gpu": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    "processor": RuntimeError(
        "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 1600000000 bytes. Error code 12 (Cannot allocate memory)"
    ),
    "python": MemoryError(),
}


class Cramped(UniEncoderModel):
    """The real model on a device that holds at most this many rows of at most this many tokens."""

    rows: int
    tokens: int
    error: Exception
    refused: int

    def forward(self, input_ids: Tensor, *rest: Any, **named: Any) -> Tensor:
        if input_ids.shape[0] > self.rows or input_ids.shape[1] > self.tokens:
            self.refused += 1
            raise self.error
        return super().forward(input_ids, *rest, **named)

    @classmethod
    def of(
        cls, reference: Reference, *, rows: int = 10_000, tokens: int = 10_000, error: Exception | None = None
    ) -> Checkpoint:
        return with_model_class(cls, reference, rows=rows, tokens=tokens, error=error or ERRORS["gpu"], refused=0)


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
@pytest.mark.parametrize("error", ["gpu", "processor", "python"])
def test_a_device_that_holds_few_rows_gives_the_same_scores(
    rows: int, error: str, reference: Callable[..., Reference], engine: Callable[..., Engine]
) -> None:
    texts = [text * times for times in (1, 3, 9) for text in TEXTS]
    expected = engine("bert", max_batch_tokens=100_000).run(texts, LABELS)
    small = Cramped.of(reference("bert"), rows=rows, error=ERRORS[error])
    results = Engine(small, device="cpu", precision="float32", max_batch_tokens=100_000).run(texts, LABELS)
    np.testing.assert_allclose(results.scores, expected.scores, atol=1e-5, rtol=0)
    assert results.errors == (None,) * len(texts)
    assert results.usage.tokens == expected.usage.tokens
    assert small.model.refused > 0


@pytest.mark.parametrize("error", ["gpu", "processor", "python"])
def test_a_text_that_fails_alone_becomes_an_error_and_its_neighbours_are_scored(
    error: str, reference: Callable[..., Reference], engine: Callable[..., Engine]
) -> None:
    texts = ["deep water", "water " * 300, "spark"]
    small = Cramped.of(reference("bert"), tokens=100, error=ERRORS[error])
    results = Engine(small, device="cpu", precision="float32", max_batch_tokens=100_000).run(texts, LABELS)
    assert results.errors == (None, OUT_OF_MEMORY, None)
    assert np.isnan(results.scores[1]).all()
    assert results.token_counts.tolist() == [2, 300, 1]
    assert results.chunk_counts.tolist() == [1, 0, 1]
    assert (results.usage.texts, results.usage.errors) == (3, 1)
    assert results.usage.tokens == 2 * (PROMPT_TOKENS + 1) + 3, "a forward pass that failed computed nothing"
    expected = engine("bert").scores(texts, LABELS)
    np.testing.assert_allclose(results.scores[[0, 2]], expected[[0, 2]], atol=1e-5, rtol=0)
    assert results.classifications()[1].error == OUT_OF_MEMORY


def test_a_device_that_holds_nothing_makes_every_text_an_error(reference: Callable[..., Reference]) -> None:
    none = Cramped.of(reference("bert"), rows=0)
    results = Engine(none, device="cpu", precision="float32").run(TEXTS, LABELS)
    assert results.errors == (OUT_OF_MEMORY,) * len(TEXTS)


def test_any_other_failure_of_the_model_is_not_hidden(reference: Callable[..., Reference]) -> None:
    broken = Cramped.of(reference("bert"), rows=0, error=RuntimeError("broken"))
    with pytest.raises(RuntimeError, match="broken"):
        Engine(broken, device="cpu", precision="float32").run(TEXTS, LABELS)
