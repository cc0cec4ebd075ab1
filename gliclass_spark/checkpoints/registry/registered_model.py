"""From models:/NAME@ALIAS to files on this machine, also while the registry is down."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

from gliclass_spark.checkpoints.cache import CACHE_VARIABLE, Cache, CheckpointSource
from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.checkpoints.registry.server import shown
from gliclass_spark.checkpoints.registry.versions import Registry
from gliclass_spark.config.model_uri import registered_model
from gliclass_spark.errors import ModelNotFoundError, RegistryUnreachableError

logger = logging.getLogger(__name__)


def resolve_registered_model(address: str, digest: str | None = None) -> ModelRef:
    """The checkpoint behind models:/NAME@ALIAS or models:/NAME/NUMBER; given a digest, the version that has it.

    The registry is the one that MLFLOW_TRACKING_URI names, see `Registry`. While it does not answer, an
    address stands for what it stood for before, with a warning. Raises ModelNotFoundError if the registry
    says that there is no such version, or if it is down and nothing is remembered; CheckpointError;
    RegistryError.
    """
    try:
        name, which = registered_model(address)
    except ValueError as error:
        raise ModelNotFoundError(str(error)) from None
    registry, cache = Registry(), Cache.default()
    try:
        if digest is None:
            return _asked(registry, cache, address, name, which)
        source = _source(registry, address, partial(_fetch_again, registry, name, digest))
        return ModelRef(address, cache.checkpoint(digest, source), digest)
    except RegistryUnreachableError as outage:
        if digest is not None:
            raise ModelNotFoundError(
                f"the files of {address!r} with the digest {digest[:12]} are not in {cache.root}, and {outage}"
            ) from None
        return _remembered(registry, cache, address, outage)


def _asked(registry: Registry, cache: Cache, address: str, name: str, which: str) -> ModelRef:
    version = registry.version(name, which)
    if not version.digest:
        raise ModelNotFoundError(
            f"{version.address} carries no digest, so its files could not be checked; register it with "
            "gliclass_spark.checkpoints.registry.Registry.register"
        )
    source = _source(registry, version.address, partial(registry.download, version))
    folder = cache.checkpoint(version.digest, source)
    cache.remember(registry.uri, address, version.digest)
    return ModelRef(address, folder, version.digest)


def _source(registry: Registry, address: str, fetch: partial[None]) -> CheckpointSource:
    return CheckpointSource(f"{address} in {shown(registry.uri)}", fetch, "register the checkpoint again")


def _fetch_again(registry: Registry, name: str, digest: str, folder: Path) -> None:
    registry.download(registry.with_digest(name, digest), folder)


def _remembered(registry: Registry, cache: Cache, address: str, outage: RegistryUnreachableError) -> ModelRef:
    known = cache.remembered(registry.uri, address)
    if known is None or not cache.holds(known.digest):
        raise ModelNotFoundError(
            f"{address!r} can't be looked up, and {cache.root} ({CACHE_VARIABLE} names another place) holds no sound "
            f"copy of what it stood for: {outage}"
        ) from None
    logger.warning(
        "%s; going on with what %s stood for at %s: digest %s", outage, address, known.asked_at, known.digest[:12]
    )
    return ModelRef(address, cache.root / known.digest, known.digest)
