"""From an address to a local folder and the digest of what is in it. Loads no torch: a driver only passes it on."""

from __future__ import annotations

from pathlib import Path

from gliclass_spark.checkpoints import embedded_files
from gliclass_spark.checkpoints.digest import digest_of, digest_of_files
from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.config.model_uri import REGISTERED
from gliclass_spark.config.paths import has_scheme
from gliclass_spark.errors import CheckpointError


def resolve_model(uri: str, digest: str | None = None) -> ModelRef:
    """Find a checkpoint: "embedded", a folder, a hub id (org/name@revision), a folder of a store (s3://, gs://,
    abfss://, hdfs://, file://: whatever fsspec has a driver for), models:/NAME@champion or models:/NAME/3.

    digest: give just the files that have it, whatever the address stands for now. Where they lie in the
    cache, no one is asked. Raises ModelNotFoundError, CheckpointError, RegistryError.
    """
    # Each kind has libraries of its own, that only its addresses load: hence the imports are not at the top.
    if uri.startswith(REGISTERED):
        from gliclass_spark.checkpoints.registry.registered_model import resolve_registered_model

        return resolve_registered_model(uri, digest)
    if has_scheme(uri):
        from gliclass_spark.checkpoints.object_store import resolve_stored_model

        return resolve_stored_model(uri, digest)
    folder = embedded_files.FOLDER if uri == embedded_files.NAME else _local_folder(uri)
    if folder is None:
        from gliclass_spark.checkpoints.hub import resolve_hub_model

        return resolve_hub_model(uri, digest)
    found = (
        digest_of_files((path.name, path) for path in embedded_files.files())
        if uri == embedded_files.NAME
        else digest_of(folder)
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
