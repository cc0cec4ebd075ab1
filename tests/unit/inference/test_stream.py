"""A stream of batches scores as each batch alone would, and tokenizes ahead of the device."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from reference_models import PUBLISHED, Reference, tokenizer
from tokenizers import Tokenizer
from torch import Tensor

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import LabelSetError
from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.prefetch import THREAD_NAME
from gliclass_spark.labels import LabelSet
from gliclass_spark.model.architectures.uni_encoder import UniEncoderModel
from gliclass_spark.model.checkpoint import Checkpoint
from gliclass_spark.model.prompts import text_tokenizer

LABELS = LabelSet.of("sport", "machine learning", "web")
BATCHES: list[list[str | None]] = [["spark", None, "deep water"], [], [""], ["a river in Zürich"] * 3, ["table"]]
PATIENCE_S = 60


@pytest.fixture
def bert(engine: Callable[..., Engine]) -> Engine:
    return engine("bert", **PUBLISHED["base-v3"][1])


@pytest.mark.parametrize("group", [1, 2, 100])
def test_each_batch_has_the_results_that_it_has_alone(
    group: int, bert: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = [bert.run(texts, LABELS) for texts in BATCHES]
    monkeypatch.setattr("gliclass_spark.inference.tokenization._GROUP_TEXTS", group)
    results = list(bert.stream(iter(BATCHES), LABELS))
    assert [result.errors for result in results] == [result.errors for result in expected]
    for streamed, alone in zip(results, expected, strict=True):
        np.testing.assert_allclose(streamed.scores, alone.scores, atol=1e-5, rtol=0)
        assert streamed.token_counts.tolist() == alone.token_counts.tolist()
        assert streamed.chunk_counts.tolist() == alone.chunk_counts.tolist()
        assert streamed.usage.tokens == alone.usage.tokens
        assert (streamed.usage.texts, streamed.usage.errors) == (alone.usage.texts, alone.usage.errors)
        assert streamed.usage.seconds >= 0


def test_the_next_batch_is_tokenized_before_the_current_forward_pass_ends(
    reference: Callable[..., Reference], monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"river {number}" for number in range(4)]
    encoded = {text: threading.Event() for text in texts}
    monkeypatch.setattr(text_tokenizer, "Tokenizer", Announcing.to(encoded))
    model = Waiting.on([encoded[text] for text in texts[1:]], reference("bert"))
    streaming = Engine(model, device="cpu", precision="float32").stream(([text] for text in texts), LABELS)
    # If the next batch were tokenized only after the pass, the pass would time out.
    assert [result.errors for result in streaming] == [(None,)] * 4
    assert model.model.met == 3


def test_no_more_than_one_batch_is_taken_ahead(bert: Engine) -> None:
    taken: list[int] = []

    def batches() -> Iterator[list[str]]:
        for number in range(6):
            taken.append(number)
            yield [f"river {number}"]

    for number, _ in enumerate(bert.stream(batches(), LABELS)):
        assert len(taken) <= number + 2


def test_an_error_of_the_batches_is_raised_after_the_results_before_it(bert: Engine) -> None:
    def batches() -> Iterator[list[str]]:
        yield ["deep water"]
        raise OSError("the pipe broke")

    streaming = bert.stream(batches(), LABELS)
    assert next(streaming).errors == (None,)
    with pytest.raises(OSError, match="the pipe broke"):
        next(streaming)
    assert not prefetching()


def test_an_error_of_the_model_ends_the_thread(reference: Callable[..., Reference]) -> None:
    broken = Waiting.on([], reference("bert"), error=RuntimeError("broken"))
    streaming = Engine(broken, device="cpu", precision="float32").stream(BATCHES, LABELS)
    with pytest.raises(RuntimeError, match="broken"):
        next(streaming)
    assert not prefetching()


def test_closing_ends_the_thread(bert: Engine) -> None:
    streaming = bert.stream(BATCHES * 10, LABELS)
    next(streaming)
    assert prefetching()
    streaming.close()
    assert not prefetching()


def test_one_text_instead_of_a_batch_is_refused(bert: Engine) -> None:
    with pytest.raises(TypeError, match="found the text 'deep water'"):
        list(bert.stream(["deep water"], LABELS))


def test_invalid_labels_are_refused_before_a_batch_is_taken(bert: Engine) -> None:
    with pytest.raises(LabelSetError):
        bert.stream(iter(BATCHES), ["<<LABEL>>"])


def prefetching() -> bool:
    return any(thread.name.startswith(THREAD_NAME) for thread in threading.enumerate())


class Waiting(UniEncoderModel):
    """The real model, whose forward passes wait for their event."""

    events: list[threading.Event]
    error: Exception | None
    met: int

    def forward(self, *args: Any, **named: Any) -> Tensor:
        if self.error:
            raise self.error
        if self.events:
            assert self.events.pop(0).wait(PATIENCE_S), "the next batch was not tokenized during this pass"
            self.met += 1
        return super().forward(*args, **named)

    @classmethod
    def on(cls, events: list[threading.Event], reference: Reference, error: Exception | None = None) -> Checkpoint:
        model = reference.twin()
        model.__class__ = cls
        model.events, model.error, model.met = events, error, 0
        return Checkpoint(resolve_model(str(reference.folder)), model, tokenizer())


class Announcing:
    """The real tokenizer, which sets a text's event once it has encoded the text."""

    encoded: dict[str, threading.Event]

    def __init__(self, real: Tokenizer) -> None:
        self._real = real

    @classmethod
    def to(cls, encoded: dict[str, threading.Event]) -> type[Announcing]:
        return type("AnnouncingThese", (cls,), {"encoded": encoded})

    @classmethod
    def from_str(cls, document: str) -> Announcing:
        return cls(Tokenizer.from_str(document))

    def encode_batch_fast(self, texts: Sequence[str], **options: Any) -> Any:
        encoded = self._real.encode_batch_fast(texts, **options)
        for text, event in self.encoded.items():
            if any(prefixed.endswith(text) for prefixed in texts):
                event.set()
        return encoded

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)
