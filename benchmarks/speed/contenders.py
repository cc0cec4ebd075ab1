"""The contenders of a throughput comparison: the engine in every precision, the `gliclass` library at its best."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import numpy as np
import torch
from gliclass import GLiClassModel as ReferenceModel  # type: ignore[import-untyped]
from gliclass import ZeroShotClassificationPipeline
from transformers import PreTrainedTokenizerFast

from benchmarks import machine
from benchmarks.speed import memory
from gliclass_spark.errors import DeviceError
from gliclass_spark.inference.device import ModelPrecision, Precision, native_bfloat16
from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.results import FloatArray

DEFAULT_BATCH_SIZE = 8  # of the library's pipeline
_BATCH_SIZES = {"cpu": (1, 4, DEFAULT_BATCH_SIZE, 32), "cuda": (DEFAULT_BATCH_SIZE, 32, 128, 512)}
_HALVES = {"cpu": (torch.bfloat16,), "cuda": (torch.bfloat16, torch.float16)}
_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Contender:
    """A way to score texts. dtype: of its matrix products; None for one in which torch's can't be measured."""

    name: str
    score: Callable[[Sequence[str]], object]
    dtype: torch.dtype | None
    engine: Engine | None = None
    memory_options: tuple[str, ...] | None = None


def library(
    model: str, tokenizer: PreTrainedTokenizerFast, device: torch.device, sample: Sequence[str]
) -> Iterator[Contender]:
    """Yield the library in float32 and in the device's faster half precision, at its default and best batch size.

    sample: texts by which the best are chosen.
    """
    yield from _at_default_and_best(model, tokenizer, device, (torch.float32,), sample)
    halves = [dtype for dtype in _HALVES[device.type] if dtype is torch.float16 or native_bfloat16(device)]
    if halves:
        yield from _at_default_and_best(model, tokenizer, device, halves, sample)


def _at_default_and_best(
    model: str,
    tokenizer: PreTrainedTokenizerFast,
    device: torch.device,
    dtypes: Sequence[torch.dtype],
    sample: Sequence[str],
) -> Iterator[Contender]:
    pipelines = {dtype: _pipeline(model, tokenizer, device, dtype) for dtype in dtypes}
    seconds = {}
    for dtype, pipeline in pipelines.items():
        pipeline(list(sample), memory.LABELS)  # to warm up
        for size in _BATCH_SIZES[device.type]:
            call = partial(pipeline, list(sample), memory.LABELS, batch_size=size)
            seconds[dtype, size] = seconds_of(call, device)
    best_dtype, best_size = min(seconds, key=seconds.__getitem__)
    name = str(best_dtype).removeprefix("torch.")
    for size in dict.fromkeys((DEFAULT_BATCH_SIZE, best_size)):
        options = ("--library",) if best_dtype is torch.float32 and size == DEFAULT_BATCH_SIZE else None
        call = partial(pipelines[best_dtype], labels=memory.LABELS, batch_size=size)
        yield Contender(f"gliclass {name}, batch {size}", call, best_dtype, memory_options=options)


def _pipeline(
    model: str, tokenizer: PreTrainedTokenizerFast, device: torch.device, dtype: torch.dtype
) -> ZeroShotClassificationPipeline:
    """Return the library's pipeline, built as in its README, with the whole model in this precision."""
    reference = ReferenceModel.from_pretrained(model).to(dtype)
    return ZeroShotClassificationPipeline(reference, tokenizer, device=str(device), progress_bar=False)


def library_scores(model: str, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> FloatArray:
    """Return the library's scores (texts, labels) in float32 at batch size 1: padding changes them."""
    pipeline = _pipeline(model, tokenizer, torch.device("cpu"), torch.float32)
    predictions = pipeline(list(texts), memory.LABELS, threshold=0.0, batch_size=1)
    return np.array([[label["score"] for label in text] for text in predictions], dtype=np.float32)


def engines(model: str, device: torch.device) -> Iterator[Contender]:
    """Yield the engine in every precision that the device has natively."""
    for precision in get_args(ModelPrecision):
        if precision == "bfloat16" and not native_bfloat16(device):
            continue
        try:
            contender = engine(f"engine {precision}", model, precision, device)
        except DeviceError as error:
            print(f"engine {precision} is left out: {error}")
            continue
        if contender.engine is not None and contender.engine.precision == precision:
            yield contender


def engine(name: str, model: str, precision: Precision, device: torch.device) -> Contender:
    """Return one engine."""
    loaded = Engine.from_pretrained(model, device=str(device), precision=precision)
    call: Callable[[Sequence[str]], Any] = partial(_score, loaded)
    options = ("--precision", precision)
    return Contender(name, call, _DTYPES.get(precision), loaded, memory_options=options)


def _score(loaded: Engine, texts: Sequence[str]) -> FloatArray:
    return loaded.scores(texts, memory.LABELS)


def seconds_of(call: Callable[[], object], device: torch.device) -> float:
    """Return the seconds that a call takes, to its end on the device."""
    machine.synchronize(device)
    started = time.perf_counter()
    call()
    machine.synchronize(device)
    return time.perf_counter() - started
