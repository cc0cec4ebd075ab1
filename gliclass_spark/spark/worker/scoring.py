"""Scoring in a Python worker: one engine per process.

The engines are kept in this module, so they live as long as the worker. In a closure, each task would unpickle its own
copy and load the model again.
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
from gliclass_spark.inference.engine import Engine, Labels
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
    """Score the texts of each batch with this process's engine, and yield the batch, its results and a report.

    Texts may be UTF-8 bytes; invalid UTF-8 gives the error `undecodable_text`. The next batch is tokenised while the
    device scores the current one. Without a batch no model is loaded. Raises DeviceError, ModelNotFoundError,
    CheckpointError.
    """
    first = list(islice(batches, 1))
    if not first:
        return
    engine, loads = _engine(settings)
    pending: deque[Batch] = deque()

    def decoded() -> Iterator[list[str | None]]:
        for batch in chain(first, batches):
            pending.append(batch)
            yield _decoded(texts(batch))

    with closing(engine.stream(decoded(), _label_set(label_set_json))) as stream:
        for results in stream:
            yield pending.popleft(), results, TaskReport(results.usage, loads)
            loads = 0


def classify_each(
    batches: Iterator[tuple[Sequence[str | bytes | None], Sequence[Labels | None]]], settings: WorkerSettings
) -> Generator[list[TextResult], None, None]:
    """Score batches of texts, each with its own labels, as `classify` does, and yield the results of each batch."""
    first = list(islice(batches, 1))
    if not first:
        return
    engine, _ = _engine(settings)
    decoded = ((_decoded(texts), labels) for texts, labels in chain(first, batches))
    with closing(engine.stream_each(decoded)) as stream:
        yield from stream


def tag_record(classification: Classification, label_set: LabelSet | None, model: ModelRef) -> dict[str, Any]:
    """Return the columns `schema.TAG_FIELDS` of a text's row in `tags`."""
    error = classification.error
    return {
        "label_set": label_set and label_set.name,
        "label_set_hash": label_set and label_set.hash,
        "scores": classification.scores,
        "labels": [scored.label for scored in classification.labels],
        "token_count": classification.token_count,
        "chunk_count": classification.chunk_count,
        "error": {"code": error.code, "message": error.message} if error else None,
        "model": model.uri,
        "model_digest": model.digest,
    }


def _engine(settings: WorkerSettings) -> tuple[Engine, int]:
    """Return this process's engine on the task's device, and how many models this call loaded (0 or 1)."""
    device = choose_device(settings.device or _task_device())
    engine = _engines.get(settings)
    if engine is not None and engine.device == device:
        return engine, 0
    if engine is not None:
        # On an executor with several GPUs the previous task had another GPU: free it for other workers.
        del engine
        _unload(settings)
    # Workers share the machine's processors: limit the threads of torch and of the tokenizer.
    torch.set_num_threads(settings.threads)
    os.environ.setdefault("RAYON_NUM_THREADS", str(settings.threads))
    # The URI's files may have changed since the driver resolved it; the digest pins them.
    model = resolve_model(settings.model.pinned or settings.model.uri, settings.model.digest, settings.model.registry)
    if device.type == "cuda":
        gpu.claim(_gpu_uuid(device), settings.gpu_sharing)
    _engines[settings] = Engine.from_pretrained(model, device=str(device), precision=settings.precision)
    late_imports.report_to_daemon()
    return _engines[settings], 1


def _task_device() -> str | None:
    """Return torch's name for the GPU that Spark assigned to this task, or None if it assigned none."""
    task = TaskContext.get()
    resource = task.resources().get("gpu") if task is not None else None
    if resource is None:
        return None
    # Discovery scripts number GPUs as nvidia-smi does; by default CUDA puts the fastest one first.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    return gpu.task_device(resource.addresses, os.environ.get("CUDA_VISIBLE_DEVICES"))


def _unload(settings: WorkerSettings) -> None:
    """Drop an engine, and release its GPU if no other engine is on it."""
    device = _engines.pop(settings).device
    if device.type == "cuda":
        torch.cuda.empty_cache()
        if all(engine.device != device for engine in _engines.values()):
            gpu.release(_gpu_uuid(device))


def _gpu_uuid(device: torch.device) -> str:
    """Return the GPU's UUID, which is the same in all processes; its number may differ."""
    return str(torch.cuda.get_device_properties(device).uuid)


@lru_cache(maxsize=64)
def _label_set(canonical_json: str) -> LabelSet:
    return LabelSet.from_json(canonical_json)


def _decoded(texts: Sequence[str | bytes | None]) -> list[str | None]:
    # Invalid bytes become lone surrogates, which the engine reports as this text's error.
    return [text.decode("utf-8", errors="surrogateescape") if isinstance(text, bytes) else text for text in texts]
