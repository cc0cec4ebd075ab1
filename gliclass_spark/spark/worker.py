"""What runs inside an executor's Python worker: one engine for one process.

This module is imported by the worker, so its engines live as long as the worker does. Were they
kept in a closure, each task would unpickle the closure and load the model again.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch

from gliclass_spark.errors import CheckpointError
from gliclass_spark.inference.device import Precision
from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.results import Classification, Results, Usage
from gliclass_spark.labels import LabelSet
from gliclass_spark.model.checkpoint import ModelRef, resolve

_engines: dict[WorkerSettings, Engine] = {}


@dataclass(frozen=True)
class WorkerSettings:
    """How a worker loads its engine. `threads` is its share of the machine's processors."""

    model: ModelRef
    device: str | None
    precision: Precision
    threads: int


@dataclass(frozen=True)
class TaskReport:
    """What a call in a worker cost: the engine's usage, and how many models it had to load for it."""

    usage: Usage
    loads: int


def classify(texts: list[str | bytes | None], label_set_json: str, settings: WorkerSettings) -> tuple[Results, int]:
    """Score texts with this process's engine; gives the results and the models loaded for it (0 or 1).

    Texts may come as UTF-8 bytes: what is not valid UTF-8 becomes an `undecodable_text` error.
    """
    engine, loads = _engine(settings)
    return engine.run([_decode(text) for text in texts], _label_set(label_set_json)), loads


def tag_record(found: Classification, label_set: LabelSet, model: ModelRef) -> dict[str, Any]:
    """One text's part of a `tags` row: the columns of `schema.TAG_FIELDS`."""
    error = found.error
    return {
        "label_set": label_set.name,
        "label_set_hash": label_set.hash,
        "scores": found.scores,
        "labels": [scored.label for scored in found.labels],
        "token_count": found.token_count,
        "chunk_count": found.chunk_count,
        "error": {"code": error.code, "message": error.message} if error else None,
        "model": model.uri,
        "model_digest": model.digest,
    }


def _engine(settings: WorkerSettings) -> tuple[Engine, int]:
    engine = _engines.get(settings)
    if engine is not None:
        return engine, 0
    # Several workers share one machine: each keeps to its threads, in torch and in the tokenizer.
    torch.set_num_threads(settings.threads)
    os.environ.setdefault("RAYON_NUM_THREADS", str(settings.threads))
    model = resolve(settings.model.uri)
    if model.digest != settings.model.digest:
        raise CheckpointError(
            f"model {model.uri!r} has digest {model.digest[:12]} on this worker, expected {settings.model.digest[:12]} "
            "as on the driver; give both the same files"
        )
    engine = Engine.from_pretrained(model, device=settings.device, precision=settings.precision)
    _engines[settings] = engine
    return engine, 1


@lru_cache(maxsize=64)
def _label_set(canonical_json: str) -> LabelSet:
    return LabelSet.from_json(canonical_json)


def _decode(text: str | bytes | None) -> str | None:
    if isinstance(text, bytes):
        # Invalid bytes become lone surrogates, which the engine reports as an error of this text alone.
        return text.decode("utf-8", errors="surrogateescape")
    return text
