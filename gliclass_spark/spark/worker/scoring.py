"""What runs inside an executor's Python worker: one engine for one process.

This module is imported by the worker, so its engines live as long as the worker does. Were they
kept in a closure, each task would unpickle the closure and load the model again.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from functools import lru_cache
from itertools import chain, islice
from typing import Any, TypeVar

import torch
from pyspark import TaskContext

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.inference.aggregation import TextResult
from gliclass_spark.inference.device import choose_device
from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.results import Classification, Results
from gliclass_spark.labels import LabelSet
from gliclass_spark.spark.worker import gpu, late_imports
from gliclass_spark.spark.worker.worker_settings import TaskReport, WorkerSettings

Batch = TypeVar("Batch")

_engines: dict[WorkerSettings, Engine] = {}


def classify(
    batches: Iterator[Batch],
    texts: Callable[[Batch], Sequence[str | bytes | None]],
    label_set_json: str,
    settings: WorkerSettings,
) -> Generator[tuple[Batch, Results, TaskReport], None, None]:
    """Score the texts of each batch with this process's engine: gives the batch, its results, what they cost.

    Texts may come as UTF-8 bytes: what is not valid UTF-8 becomes an `undecodable_text` error. The next
    batch is taken and tokenised while the device scores the present one. Without a batch no model is
    loaded. Raises DeviceError, ModelNotFoundError, CheckpointError.
    """
    first = list(islice(batches, 1))
    if not first:
        return
    engine, loads = _engine(settings)
    waiting: deque[Batch] = deque()

    def decoded() -> Iterator[list[str | None]]:
        for batch in chain(first, batches):
            waiting.append(batch)
            yield _decoded(texts(batch))

    with closing(engine.stream(decoded(), _label_set(label_set_json))) as stream:
        for results in stream:
            yield waiting.popleft(), results, TaskReport(results.usage, loads)
            loads = 0


def classify_each(
    batches: Iterator[tuple[Sequence[str | bytes | None], Sequence[Sequence[str] | None]]], settings: WorkerSettings
) -> Generator[list[TextResult], None, None]:
    """`classify`, for batches of texts and of each text's own labels: gives the answers of each batch."""
    first = list(islice(batches, 1))
    if not first:
        return
    engine, _ = _engine(settings)
    asked = ((_decoded(texts), labels) for texts, labels in chain(first, batches))
    with closing(engine.stream_each(asked)) as stream:
        yield from stream


def tag_record(found: Classification, label_set: LabelSet | None, model: ModelRef) -> dict[str, Any]:
    """One text's part of a `tags` row: the columns of `schema.TAG_FIELDS`."""
    error = found.error
    return {
        "label_set": label_set and label_set.name,
        "label_set_hash": label_set and label_set.hash,
        "scores": found.scores,
        "labels": [scored.label for scored in found.labels],
        "token_count": found.token_count,
        "chunk_count": found.chunk_count,
        "error": {"code": error.code, "message": error.message} if error else None,
        "model": model.uri,
        "model_digest": model.digest,
    }


def _engine(settings: WorkerSettings) -> tuple[Engine, int]:
    """This process's engine on the task's device, and the models loaded for it (0 or 1)."""
    device = choose_device(settings.device or _given_device())
    engine = _engines.get(settings)
    if engine is not None and engine.device == device:
        return engine, 0
    if engine is not None:
        # An executor with several GPUs: the task before had another one, which is free for others from now on.
        del engine
        _leave(settings)
    # Several workers share one machine: each keeps to its threads, in torch and in the tokenizer.
    torch.set_num_threads(settings.threads)
    os.environ.setdefault("RAYON_NUM_THREADS", str(settings.threads))
    # What the address stands for may have changed since the driver asked; the digest has not.
    model = resolve_model(settings.model.pinned or settings.model.uri, settings.model.digest)
    if device.type == "cuda":
        gpu.claim(_name(device), settings.gpu_sharing)
    _engines[settings] = Engine.from_pretrained(model, device=str(device), precision=settings.precision)
    late_imports.tell_daemon()
    return _engines[settings], 1


def _given_device() -> str | None:
    """The GPU that Spark gave to this task, in torch's words; None if it gave none."""
    task = TaskContext.get()
    given = task.resources().get("gpu") if task is not None else None
    if given is None:
        return None
    # Discovery scripts count as nvidia-smi does; CUDA, left alone, puts its fastest GPU first.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    return gpu.task_device(given.addresses, os.environ.get("CUDA_VISIBLE_DEVICES"))


def _leave(settings: WorkerSettings) -> None:
    """Drop an engine, and with the last one on a GPU the claim to it."""
    device = _engines.pop(settings).device
    if device.type == "cuda":
        torch.cuda.empty_cache()
        if all(engine.device != device for engine in _engines.values()):
            gpu.release(_name(device))


def _name(device: torch.device) -> str:
    """The same for every process that sees this GPU, whatever number each gives to it."""
    return str(torch.cuda.get_device_properties(device).uuid)


@lru_cache(maxsize=64)
def _label_set(canonical_json: str) -> LabelSet:
    return LabelSet.from_json(canonical_json)


def _decoded(texts: Sequence[str | bytes | None]) -> list[str | None]:
    # Invalid bytes become lone surrogates, which the engine reports as an error of this text alone.
    return [text.decode("utf-8", errors="surrogateescape") if isinstance(text, bytes) else text for text in texts]
