"""From an address to a local folder and the digest of what is in it. Loads no torch: a driver only passes it on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
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


@dataclass(frozen=True)
class ModelRef:
    """A checkpoint, resolved once: the address that the user gave, where its files are, and their digest.

    `digest` is the SHA-256 of weights, configuration and tokenizer. It travels with a job, so that
    every worker can check that it scores with the very same model.
    """

    uri: str
    folder: Path
    digest: str


def resolve(uri: str) -> ModelRef:
    """Find a checkpoint: "embedded", a local folder, or a hub id. Raises ModelNotFoundError, CheckpointError."""
    if uri == embedded.NAME:
        return ModelRef(uri, embedded.FOLDER, _digest(embedded.files()))
    folder = _local_folder(uri) or _fetch(uri)
    _refuse_unsafe(folder)
    files = [folder / "config.json", folder / WEIGHTS, *(folder / name for name in _TOKENIZER_FILES)]
    return ModelRef(uri, folder, _digest(path for path in files if path.exists()))


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


def _refuse_unsafe(folder: Path) -> None:
    if (folder / WEIGHTS).is_file():
        return
    pickled = sorted(path.name for path in folder.glob("*.bin")) + sorted(path.name for path in folder.glob("*.pt"))
    if pickled:
        raise CheckpointError(
            f"{folder} holds {pickled[0]} but no {WEIGHTS}: pickled weights can run code and are never loaded; "
            "convert the checkpoint to safetensors"
        )
    raise CheckpointError(f"{folder} holds no {WEIGHTS}; give the folder of a GLiClass checkpoint")


def _digest(files: Iterable[Path]) -> str:
    total = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            total.update(path.name.encode() + b"\0" + hashlib.file_digest(file, "sha256").digest())
    return total.hexdigest()
