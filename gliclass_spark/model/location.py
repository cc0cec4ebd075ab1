"""From an address to a local folder and the digest of what is in it. Loads no torch: a driver only passes it on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gliclass_spark.addresses import REGISTERED, has_scheme
from gliclass_spark.errors import CheckpointError
from gliclass_spark.model import embedded
from gliclass_spark.model.contents import digest_of, digest_of_files


@dataclass(frozen=True)
class ModelRef:
    """A checkpoint, resolved once: the address that the user gave, where its files are, and their digest.

    `digest` is the SHA-256 of weights, configuration and tokenizer. It travels with a job, so that
    every worker scores with the very same model: `resolve(uri, digest)` finds it again, even if the
    address is an alias that has moved meanwhile. `pinned` is an address of these very files where the
    user's own may come to stand for others, and there is one: org/name@commit for a hub id.
    """

    uri: str
    folder: Path
    digest: str
    pinned: str | None = None


def resolve(uri: str, digest: str | None = None) -> ModelRef:
    """Find a checkpoint: "embedded", a folder, a hub id (org/name@revision), a folder of a store (s3://, gs://,
    abfss://, hdfs://, file://: whatever fsspec has a driver for), models:/NAME@champion or models:/NAME/3.

    digest: give just the files that have it, whatever the address stands for now. Where they lie in the
    cache, no one is asked. Raises ModelNotFoundError, CheckpointError, RegistryError.
    """
    # Each kind has libraries of its own, that only its addresses load: hence the imports are not at the top.
    if uri.startswith(REGISTERED):
        from gliclass_spark.registry.address import resolve as resolve_registered

        return resolve_registered(uri, digest)
    if has_scheme(uri):
        from gliclass_spark.model.store import resolve as resolve_stored

        return resolve_stored(uri, digest)
    folder = embedded.FOLDER if uri == embedded.NAME else _local_folder(uri)
    if folder is None:
        from gliclass_spark.model.hub import resolve as resolve_hub

        return resolve_hub(uri, digest)
    found = (
        digest_of_files((path.name, path) for path in embedded.files()) if uri == embedded.NAME else digest_of(folder)
    )
    if digest is not None and digest != found:
        raise CheckpointError(
            f"model {uri!r} has the digest {found[:12]} on this machine, expected {digest[:12]}; give every machine "
            "the same files, and leave them alone while a job runs"
        )
    return ModelRef(uri, folder, found)


def _local_folder(uri: str) -> Path | None:
    try:
        folder = Path(uri).expanduser()
    except RuntimeError:  # "~name" of nobody
        return None
    return folder if uri and folder.is_dir() else None
