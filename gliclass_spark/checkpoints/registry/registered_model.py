"""Registered models: models:/NAME@ALIAS to files on this machine, also while the registry is down."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

from gliclass_spark.checkpoints.cache import CACHE_VARIABLE, Cache, CheckpointSource
from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.checkpoints.registry.versions import Registry
from gliclass_spark.config.model_uri import registered_model
from gliclass_spark.errors import ModelNotFoundError, RegistryUnreachableError

logger = logging.getLogger(__name__)


def resolve_registered_model(uri: str, digest: str | None = None, registry: str | None = None) -> ModelRef:
    """Return the checkpoint at models:/NAME@ALIAS or models:/NAME/NUMBER; given a digest, the version that has it.

    registry: MLflow tracking URI, see `Registry`. While the registry is unreachable, a URI resolves to the digest
    that it had last, with a warning. Raises ModelNotFoundError if the registry has no such version, or if it is
    unreachable and the cache has no earlier resolution; CheckpointError; RegistryError.
    """
    try:
        name, selector = registered_model(uri)
    except ValueError as error:
        raise ModelNotFoundError(str(error)) from None
    models, cache = Registry(registry), Cache.default()
    try:
        if digest is None:
            folder, digest = _latest(models, cache, uri, name, selector)
        else:
            fetch = partial(_fetch_by_digest, models, name, digest)
            folder = cache.checkpoint(digest, _source(models, uri, fetch))
    except RegistryUnreachableError as outage:
        if digest is not None:
            raise ModelNotFoundError(
                f"the files of {uri!r} with the digest {digest[:12]} are not in {cache.root}, and {outage}"
            ) from None
        folder, digest = _last_resolution(models, cache, uri, outage)
    return ModelRef(uri, folder, digest, registry=registry)


def _latest(models: Registry, cache: Cache, uri: str, name: str, selector: str) -> tuple[Path, str]:
    version = models.version(name, selector)
    if not version.digest:
        raise ModelNotFoundError(
            f"{version.uri} has no digest to check its files by; register it with "
            "gliclass_spark.checkpoints.registry.Registry.register"
        )
    folder = cache.checkpoint(version.digest, _source(models, version.uri, partial(models.download, version)))
    cache.record_resolution(models.uri, uri, version.digest)
    return folder, version.digest


def _source(models: Registry, uri: str, fetch: partial[None]) -> CheckpointSource:
    return CheckpointSource(f"{uri} in {models}", fetch, "register the checkpoint again")


def _fetch_by_digest(models: Registry, name: str, digest: str, folder: Path) -> None:
    models.download(models.with_digest(name, digest), folder)


def _last_resolution(models: Registry, cache: Cache, uri: str, outage: RegistryUnreachableError) -> tuple[Path, str]:
    last = cache.last_resolution(models.uri, uri)
    if last is None or not cache.holds(last.digest):
        raise ModelNotFoundError(
            f"{uri!r} can't be resolved, and {cache.root} (set {CACHE_VARIABLE} to use another folder) holds no intact "
            f"copy of the files that it resolved to before: {outage}"
        ) from None
    logger.warning(
        "%s; using the files that %s resolved to at %s: digest %s", outage, uri, last.resolved_at, last.digest[:12]
    )
    return cache.root / last.digest, last.digest
