"""Files of a checkpoint: which names belong to it, and whether they are safe to load."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from gliclass_spark.checkpoints.code_keys import code_key
from gliclass_spark.errors import CheckpointError

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
# The index of weights in several files (shards): it maps each tensor to its file.
INDEX = "model.safetensors.index.json"
# The label set whose temperatures, biases and thresholds were fitted to these weights.
CALIBRATION = "calibration.yaml"
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
_SHARD = f"model-{'[0-9]' * 5}-of-{'[0-9]' * 5}.safetensors"
# All files that a checkpoint can consist of, as shell patterns. No other file is ever fetched. None has a `*`, which
# matches slashes, too: model-/../../x-of-1.safetensors would be fetched to another folder.
PATTERNS = [CONFIG, WEIGHTS, INDEX, _SHARD, CALIBRATION, *_ALL_TOKENIZER_FILES]
_PICKLED = (".bin", ".ckpt", ".pkl", ".pt", ".pth")


def is_checkpoint_file(name: str) -> bool:
    """Return whether a file of this name, relative to the checkpoint's folder, can be part of a checkpoint."""
    return any(fnmatchcase(name, pattern) for pattern in PATTERNS)


def has_file(folder: Path, name: str, source: str | None = None) -> bool:
    """Return whether a folder holds a file of this name. source: where the files came from, for messages.

    Raises CheckpointError for a symbolic link that leads out of the folder: a checkpoint that is unpacked from an
    archive could otherwise name any file of this machine as one of its own.
    """
    if not (folder / name).is_file():
        return False
    target, root = (folder / name).resolve(), folder.resolve()
    if target.is_relative_to(root) or target.parent == _hub_blobs(root):
        return True
    raise CheckpointError(
        f"{name} of {source or folder} is a symbolic link out of its folder, which is never followed; put the file "
        "itself there"
    )


def checkpoint_files(folder: Path, source: str | None = None) -> list[str]:
    """Return the names of the files of a checkpoint, in the order in which the digest covers them.

    source: where the files came from, for messages. Raises CheckpointError if weights are missing or pickled, if the
    configuration needs code of its own, or for a link as `has_file` does.
    """
    source = source or str(folder)
    refuse_unsafe([path.name for path in folder.glob("*")], source)
    weights = weight_files(folder, source)
    index = [INDEX] if WEIGHTS not in weights else []
    names = (CONFIG, *index, *weights, *_ALL_TOKENIZER_FILES, CALIBRATION)
    files = [name for name in names if has_file(folder, name, source)]
    if CONFIG in files:
        _refuse_code(folder / CONFIG, source)
    return files


def weight_files(folder: Path, source: str | None = None) -> list[str]:
    """Return the safetensors files with the weights: one, or those that the index names. Raises CheckpointError."""
    if has_file(folder, WEIGHTS, source):
        return [WEIGHTS]
    index = f"{INDEX} of {source or folder}"
    try:
        document = json.loads((folder / INDEX).read_text(encoding="utf-8")) if has_file(folder, INDEX, source) else {}
        shards = sorted({str(shard) for shard in document["weight_map"].values()})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise CheckpointError(f"{index} can't be read; fetch the checkpoint again") from None
    for shard in shards:
        if not fnmatchcase(shard, _SHARD):
            raise CheckpointError(
                f"{index} names {shard!r}, expected files beside it, as model-00001-of-00002.safetensors; save the "
                "checkpoint again"
            )
        if not has_file(folder, shard, source):
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


def _hub_blobs(root: Path) -> Path | None:
    """Return the folder that the files of a snapshot in the hub's own cache link to; None for any other folder."""
    return root.parent.parent / "blobs" if root.parent.name == "snapshots" else None


def _refuse_code(config: Path, source: str) -> None:
    """Raise CheckpointError if a model's configuration names code to build or run it with."""
    try:
        document = json.loads(config.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        return  # reported where a model is built from the configuration
    key = code_key(document)
    if key is not None:
        raise CheckpointError(
            f"{CONFIG} of {source} needs code of its own ({key}), but code from a checkpoint is never run; use a "
            "checkpoint whose encoder is part of transformers"
        )
