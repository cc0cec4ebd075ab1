"""Files of a checkpoint: which names belong to it, and whether they are safe to load."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from gliclass_spark.errors import CheckpointError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
# The index of weights in several files (shards): it maps each tensor to its file.
INDEX = "model.safetensors.index.json"
# The folder of a second tokenizer, for models with an encoder of its own for labels.
LABEL_TOKENIZER = "label_tokenizer"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "spm.model",
    "vocab.txt",
)
_ALL_TOKENIZER_FILES = (*_TOKENIZER_FILES, *(f"{LABEL_TOKENIZER}/{name}" for name in _TOKENIZER_FILES))
# All files that a checkpoint can consist of, as shell patterns. No other file is ever fetched.
PATTERNS = [CONFIG, WEIGHTS, INDEX, "model-*-of-*.safetensors", *_ALL_TOKENIZER_FILES]
_SHARD = re.compile(r"model-[0-9]+-of-[0-9]+\.safetensors")
_PICKLED = (".bin", ".ckpt", ".pkl", ".pt", ".pth")


def is_checkpoint_file(name: str) -> bool:
    """Return whether a file of this name, relative to the checkpoint's folder, can be part of a checkpoint."""
    return any(fnmatchcase(name, pattern) for pattern in PATTERNS)


def checkpoint_files(folder: Path, source: str | None = None) -> list[str]:
    """Return the names of the files of a checkpoint, in the order in which the digest covers them.

    source: where the files came from, for messages. Raises CheckpointError if weights are missing or pickled, or
    if the configuration needs custom code.
    """
    source = source or str(folder)
    refuse_unsafe([path.name for path in folder.glob("*")], source)
    _refuse_code(folder / CONFIG, source)
    weights = weight_files(folder, source)
    index = [INDEX] if WEIGHTS not in weights else []
    return [name for name in (CONFIG, *index, *weights, *_ALL_TOKENIZER_FILES) if (folder / name).is_file()]


def weight_files(folder: Path, source: str | None = None) -> list[str]:
    """Return the safetensors files with the weights: one, or those that the index names. Raises CheckpointError."""
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    index = f"{INDEX} of {source or folder}"
    try:
        document = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        shards = sorted({str(shard) for shard in document["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CheckpointError(f"{index} can't be read; fetch the checkpoint again") from None
    for shard in shards:
        if not _SHARD.fullmatch(shard):
            raise CheckpointError(
                f"{index} names {shard!r}, expected files beside it, as model-00001-of-00002.safetensors; save the "
                "checkpoint again"
            )
        if not (folder / shard).is_file():
            raise CheckpointError(f"{index} names {shard}, which is missing; fetch the checkpoint again")
    if not shards:
        raise CheckpointError(f"{index} names no file of weights; save the checkpoint again")
    return shards


def refuse_unsafe(names: Sequence[str], source: str) -> None:
    """Raise CheckpointError unless the file names of a source include weights in safetensors, which run no code."""
    if WEIGHTS in names or INDEX in names:
        return
    pickled = sorted(name for name in names if name.endswith(_PICKLED))
    if pickled:
        raise CheckpointError(
            f"{source} holds {pickled[0]} but no {WEIGHTS}: pickled weights can run code and are never loaded; "
            "convert the checkpoint to safetensors"
        )
    raise CheckpointError(f"{source} holds no {WEIGHTS}; give the folder of a GLiClass checkpoint")


def _refuse_code(config: Path, source: str) -> None:
    """Raise CheckpointError if a model's configuration names Python code to build it with."""
    try:
        pending: list[tuple[str, Any]] = [("", json.loads(config.read_text(encoding="utf-8")))]
    except (FileNotFoundError, ValueError, RecursionError):
        return  # reported where a model is built from the configuration
    while pending:
        prefix, value = pending.pop()
        if not isinstance(value, dict):
            continue
        if value.get("auto_map"):
            raise CheckpointError(
                f"{CONFIG} of {source} needs code of its own ({prefix}auto_map), but code from a checkpoint is never "
                "run; use a checkpoint whose encoder is part of transformers"
            )
        pending += [(f"{prefix}{key}.", child) for key, child in value.items()]
