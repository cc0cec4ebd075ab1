"""Parts ahead: a GPU gets the next part while the results of the last are read; here on a processor, which can, too."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from reference_models import Reference, with_model_class
from torch import Tensor

from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.prefetch import THREAD_NAME
from gliclass_spark.labels import LabelSet
from gliclass_spark.model.architectures.uni_encoder import UniEncoderModel

LABELS = LabelSet.of("sport", "machine learning", "web")
BATCHES: list[list[str | None]] = [["spark", None, "deep water"], [], [""], ["a river in Zürich"] * 3, ["table"]]
PATIENCE_S = 60


class Watched(UniEncoderModel):
    """The real model, which counts its passes, waits in the first ones for a sign, and may fail in one."""

    passes: int
    began: list[threading.Event]
    fails_at: int | None

    def forward(self, *args: Any, **named: Any) -> Tensor:
        self.passes += 1
        if self.passes == self.fails_at:
            raise RuntimeError("broken")
        if self.passes <= len(self.began):
            self.began[self.passes - 1].set()
        return super().forward(*args, **named)


@pytest.fixture
def watched(reference: Callable[..., Reference], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Engine]:
    """An engine that works ahead as with a GPU, a text a part."""
    monkeypatch.setattr("gliclass_spark.inference.tokenization._GROUP_TEXTS", 1)

    def of(began: int = 0, fails_at: int | None = None) -> Engine:
        events = [threading.Event() for _ in range(began)]
        model = with_model_class(Watched, reference("bert"), passes=0, began=events, fails_at=fails_at)
        engine = Engine(model, device="cpu", precision="float32")
        engine._overlaps = True
        model.model.passes = 0
        return engine

    return of


def threads() -> int:
    return sum(thread.name.startswith(THREAD_NAME) for thread in threading.enumerate())


def model_of(engine: Engine) -> Watched:
    return engine._runner._model  # type: ignore[attr-defined, no-any-return]


def test_results_are_those_of_one_part_at_a_time(watched: Callable[..., Engine], engine: Callable[..., Engine]) -> None:
    plain, ahead = engine("bert"), watched()
    texts = [text for batch in BATCHES for text in batch]
    results, expected = ahead.run(texts, LABELS), plain.run(texts, LABELS)
    np.testing.assert_allclose(results.scores, expected.scores, atol=1e-5, rtol=0)
    assert results.errors == expected.errors
    assert (results.usage.tokens, results.usage.texts) == (expected.usage.tokens, expected.usage.texts)
    for streamed, batch in zip(ahead.stream(iter(BATCHES), LABELS), BATCHES, strict=True):
        np.testing.assert_allclose(streamed.scores, plain.scores(batch, LABELS), atol=1e-5, rtol=0)
    each = ahead.classify_each(texts, [LABELS] * len(texts))
    assert [record.error for record in each] == list(expected.errors)
    assert threads() == 0


def test_the_next_part_starts_before_the_results_of_the_last_are_taken(watched: Callable[..., Engine]) -> None:
    ahead = watched(began=2)
    streaming = ahead.stream((["deep water"], ["a river"], ["table"], ["web"]), LABELS)
    next(streaming)
    assert model_of(ahead).began[1].wait(PATIENCE_S)
    streaming.close()
    assert threads() == 0


def test_no_more_than_two_parts_are_taken_ahead(watched: Callable[..., Engine]) -> None:
    taken: list[int] = []

    def batches() -> Iterator[list[str]]:
        for number in range(8):
            taken.append(number)
            yield [f"river {number}"]

    for number, _ in enumerate(watched().stream(batches(), LABELS)):
        assert len(taken) <= number + 4


def test_an_error_of_the_model_is_raised_in_its_parts_turn_and_ends_the_threads(
    watched: Callable[..., Engine],
) -> None:
    streaming = watched(fails_at=2).stream((["deep water"], ["a river"], ["table"]), LABELS)
    assert next(streaming).errors == (None,)
    with pytest.raises(RuntimeError, match="broken"):
        next(streaming)
    assert threads() == 0


def test_an_error_of_the_batches_is_raised_after_the_results_before_it(watched: Callable[..., Engine]) -> None:
    def batches() -> Iterator[list[str]]:
        yield ["deep water"]
        raise OSError("the pipe broke")

    streaming = watched().stream(batches(), LABELS)
    assert next(streaming).errors == (None,)
    with pytest.raises(OSError, match="the pipe broke"):
        next(streaming)
    assert threads() == 0


def test_a_call_between_two_results_of_a_stream_has_its_own_results(
    watched: Callable[..., Engine], engine: Callable[..., Engine]
) -> None:
    ahead, texts = watched(), [f"river {number}" for number in range(6)]
    expected = engine("bert").scores(texts, LABELS)
    for row, results in enumerate(ahead.stream(([text] for text in texts), LABELS)):
        np.testing.assert_allclose(results.scores[0], expected[row], atol=1e-5, rtol=0)
        np.testing.assert_allclose(ahead.scores(texts, LABELS), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("batch_texts", [1, 5])
def test_no_result_is_read_before_every_batch_of_its_part_has_started(
    batch_texts: int, reference: Callable[..., Reference], monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []
    model = with_model_class(Watched, reference("bert"), passes=0, began=[], fails_at=None)
    engine = Engine(model, device="cpu", precision="float32", max_batch_tokens=batch_texts * 11)
    start, numpy = Watched.forward, Tensor.numpy

    def starts(model: Watched, *args: Any, **named: Any) -> Tensor:
        order.append("start")
        return start(model, *args, **named)

    def reads(tensor: Tensor, *args: Any, **named: Any) -> Any:
        order.append("read")
        return numpy(tensor, *args, **named)

    monkeypatch.setattr(Watched, "forward", starts)
    monkeypatch.setattr(torch.Tensor, "numpy", reads)
    engine.run(["river", "table", "web", "water", "spark"], LABELS)
    passes = order.count("start")
    assert order == ["start"] * passes + ["read"] * passes
    assert passes == -(-5 // batch_texts)
