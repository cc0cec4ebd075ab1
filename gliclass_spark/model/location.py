"""From an address to a local folder and the digest of what is in it. Loads no torch: a driver only passes it on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from gliclass_spark.errors import CheckpointError, ModelNotFoundError
from gliclass_spark.model import embedded

WEIGHTS = "model.safetensors"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "spm.model",
    "vocab.txt",
)
# Everything that a checkpoint can consist of. Pickled weights and code are never fetched.
_FETCHED = ["config.json", "*.safetensors", *_TOKENIZER_FILES]
# What the digest covers, in this order.
CHECKPOINT_FILES = ("config.json", WEIGHTS, *_TOKENIZER_FILES)


@dataclass(frozen=True)
class ModelRef:
    """A checkpoint, resolved once: the address that the user gave, where its files are, and their digest.

    `digest` is the SHA-256 of weights, configuration and tokenizer. It travels with a job, so that
    every worker scores with the very same model: `resolve(uri, digest)` finds it again, even if the
    address is an alias that has moved meanwhile.
    """

    uri: str
    folder: Path
    digest: str


def resolve(uri: str, digest: str | None = None) -> ModelRef:
    """Find a checkpoint: "embedded", a local folder, a hub id, models:/NAME@champion or models:/NAME/3.

    digest: of a registered model, take the version with this digest, wherever its alias points now;
    any other address stands for one checkpoint, whose digest is the caller's to compare. Raises
    ModelNotFoundError, CheckpointError, RegistryError.
    """
    if uri == embedded.NAME:
        return ModelRef(uri, embedded.FOLDER, _digest(embedded.files()))
    if uri.startswith("models:/"):
        # The registry builds on this module, and only such an address needs it: hence not at the top.
        from gliclass_spark.registry.address import resolve as resolve_registered

        return resolve_registered(uri, digest)
    folder = _local_folder(uri) or _fetch(uri)
    return ModelRef(uri, folder, digest_of(folder))


def digest_of(folder: Path) -> str:
    """SHA-256 of a checkpoint's files. Raises CheckpointError if its weights are missing, or pickled."""
    refuse_unsafe([path.name for path in folder.glob("*")], str(folder))
    return _digest(path for path in (folder / name for name in CHECKPOINT_FILES) if path.exists())


def _local_folder(uri: str) -> Path | None:
    try:
        folder = Path(uri).expanduser()
    except RuntimeError:  # "~name" of nobody
        return None
    return folder if uri and folder.is_dir() else None


def _fetch(uri: str) -> Path:
    try:
        return Path(snapshot_download(uri, allow_patterns=_FETCHED))
    except (HFValidationError, LocalEntryNotFoundError, HfHubHTTPError) as error:
        raise ModelNotFoundError(
            f"model {uri!r} is not a folder, and the hub does not give it ({type(error).__name__}); "
            'check the address, or use "embedded"'
        ) from None


def refuse_unsafe(names: Sequence[str], place: str) -> None:
    """Raise CheckpointError unless weights that run no code are among the names of a place's files."""
    if WEIGHTS in names:
        return
    pickled = sorted(name for name in names if name.endswith((".bin", ".pt")))
    if pickled:
        raise CheckpointError(
            f"{place} holds {pickled[0]} but no {WEIGHTS}: pickled weights can run code and are never loaded; "
            "convert the checkpoint to safetensors"
        )
    raise CheckpointError(f"{place} holds no {WEIGHTS}; give the folder of a GLiClass checkpoint")


def is_digest(text: str) -> bool:
    """Whether it can be a digest. What is none must never become the name of a folder."""
    return re.fullmatch(r"[0-9a-f]{64}", text) is not None


def _digest(files: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            total.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
