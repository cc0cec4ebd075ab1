"""What a checkpoint consists of: the files that count, whether they are safe, and their digest. Loads no torch."""

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
# Of weights in several files: it says which file holds which of them.
INDEX = "model.safetensors.index.json"
# The folder of a second tokenizer, for labels that an encoder of their own reads.
LABEL_TOKENIZER = "label_tokenizer"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "spm.model",
    "vocab.txt",
)
_TOKENIZERS = (*_TOKENIZER_FILES, *(f"{LABEL_TOKENIZER}/{name}" for name in _TOKENIZER_FILES))
# Everything that a checkpoint can consist of, as shell patterns: nothing else is ever fetched.
PATTERNS = [CONFIG, WEIGHTS, INDEX, "model-*-of-*.safetensors", *_TOKENIZERS]
_SHARD = re.compile(r"model-[0-9]+-of-[0-9]+\.safetensors")
_PICKLED = (".bin", ".ckpt", ".pkl", ".pt", ".pth")


def belongs(name: str) -> bool:
    """Whether a file of this name, as seen from the checkpoint's folder, can be a part of a checkpoint."""
    return any(fnmatchcase(name, pattern) for pattern in PATTERNS)


def files_of(folder: Path, place: str | None = None) -> list[str]:
    """The names of the files that make a checkpoint, in the order in which the digest covers them.

    place: where the files came from, for messages. Raises CheckpointError if weights are missing or pickled,
    or if the configuration asks for code.
    """
    place = place or str(folder)
    refuse_unsafe([path.name for path in folder.glob("*")], place)
    _refuse_code(folder / CONFIG, place)
    weights = weight_files(folder, place)
    index = [INDEX] if WEIGHTS not in weights else []
    return [name for name in (CONFIG, *index, *weights, *_TOKENIZERS) if (folder / name).is_file()]


def weight_files(folder: Path, place: str | None = None) -> list[str]:
    """The safetensors files that hold the weights: one, or those that the index names. Raises CheckpointError."""
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    index = f"{INDEX} of {place or folder}"
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


def refuse_unsafe(names: Sequence[str], place: str) -> None:
    """Raise CheckpointError unless weights that run no code are among the names of a place's files."""
    if WEIGHTS in names or INDEX in names:
        return
    pickled = sorted(name for name in names if name.endswith(_PICKLED))
    if pickled:
        raise CheckpointError(
            f"{place} holds {pickled[0]} but no {WEIGHTS}: pickled weights can run code and are never loaded; "
            "convert the checkpoint to safetensors"
        )
    raise CheckpointError(f"{place} holds no {WEIGHTS}; give the folder of a GLiClass checkpoint")


def _refuse_code(config: Path, place: str) -> None:
    """Raise CheckpointError if a model's configuration names Python code to build it with."""
    try:
        waiting: list[tuple[str, Any]] = [("", json.loads(config.read_text(encoding="utf-8")))]
    except (FileNotFoundError, ValueError, RecursionError):
        return  # whoever builds a model by the configuration says what is wrong with it
    while waiting:
        prefix, part = waiting.pop()
        if not isinstance(part, dict):
            continue
        if part.get("auto_map"):
            raise CheckpointError(
                f"{CONFIG} of {place} asks for code of its own ({prefix}auto_map), but code from a checkpoint is never "
                "run; take a checkpoint whose encoder transformers knows by itself"
            )
        waiting += [(f"{prefix}{key}.", value) for key, value in part.items()]
