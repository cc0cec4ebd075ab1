"""Model URIs, resolved to local files and their digest. Loads no torch, which a Spark driver does not need."""

from __future__ import annotations

from pathlib import Path

from gliclass_spark.checkpoints import embedded_files
from gliclass_spark.checkpoints.digest import digest_of, digest_of_files
from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.config.model_uri import REGISTERED
from gliclass_spark.config.paths import has_scheme
from gliclass_spark.errors import CheckpointError


def resolve_model(uri: str, digest: str | None = None, registry: str | None = None) -> ModelRef:
    """Return the checkpoint at a model URI, with its files on this machine.

    uri: "embedded", a folder, a hub id (org/name@revision), a folder of an object store (s3://, gs://, abfss://,
    hdfs://, file://: any scheme that fsspec has a driver for), models:/NAME@champion or models:/NAME/3.
    digest: return the files with this digest, whatever the URI points to now; from the cache, without network
    access, if they are there. registry: MLflow tracking URI for models:/ URIs, see `Registry`; other URIs ignore it.
    Raises ModelNotFoundError, CheckpointError, RegistryError.
    """
    # Imported where they are used: each kind of URI has heavy libraries of its own.
    if uri.startswith(REGISTERED):
        from gliclass_spark.checkpoints.registry.registered_model import resolve_registered_model

        return resolve_registered_model(uri, digest, registry)
    if has_scheme(uri):
        from gliclass_spark.checkpoints.object_store import resolve_stored_model

        return resolve_stored_model(uri, digest)
    folder = embedded_files.FOLDER if uri == embedded_files.NAME else _local_folder(uri)
    if folder is None:
        from gliclass_spark.checkpoints.hub import resolve_hub_model

        return resolve_hub_model(uri, digest)
    if uri == embedded_files.NAME:
        local_digest = digest_of_files((path.name, path) for path in embedded_files.files())
    else:
        local_digest = digest_of(folder)
    if digest is not None and digest != local_digest:
        raise CheckpointError(
            f"model {uri!r} has the digest {local_digest[:12]} on this machine, expected {digest[:12]}; give every "
            "machine the same files, and don't change them while a job runs"
        )
    return ModelRef(uri, folder, local_digest)


def _local_folder(uri: str) -> Path | None:
    try:
        folder = Path(uri).expanduser()
    except RuntimeError:  # "~name" without such a user
        return None
    return folder if uri and folder.is_dir() else None
