"""A checkpoint on the Hugging Face hub: a branch is resolved to a commit once, and its files are the commit's."""

from __future__ import annotations

import logging
import os
import re
import shutil
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from pathlib import Path

from huggingface_hub import HfApi, constants, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from gliclass_spark.checkpoints.cache import Cache, CheckpointSource
from gliclass_spark.checkpoints.files import PATTERNS, files_of, refuse_unsafe
from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.config.model_uri import hub_model
from gliclass_spark.errors import CheckpointError, ModelNotFoundError

logger = logging.getLogger(__name__)


def resolve_hub_model(address: str, digest: str | None = None) -> ModelRef:
    """The checkpoint behind org/name or org/name@revision; its `pinned` address names the commit.

    digest: of the files that are meant; then the hub is asked only if the cache does not have them. While
    the hub does not answer, an address stands for the commit that it stood for before, with a warning.
    Raises ModelNotFoundError, CheckpointError.
    """
    try:
        repository, revision = hub_model(address)
    except ValueError:
        raise _not_given(address, "it is no hub id") from None
    cache = Cache.default()
    if digest is not None:
        fetch = partial(_fetch_revision, address, repository, revision)
        return ModelRef(address, cache.checkpoint(digest, _source(address, fetch)), digest)
    known = cache.remembered(constants.ENDPOINT, address)
    commit = _commit(address, repository, revision, known.state if known is not None else None)
    pinned = f"{repository}@{commit}"
    if pinned != address and (known is None or known.state != commit):
        logger.warning("%s is at the commit %s now; write %s to stay with it", address, commit, pinned)
    source = _source(address, partial(_fetch, address, repository, commit))
    found = cache.current(constants.ENDPOINT, address, commit, source)
    return ModelRef(address, cache.root / found, found, pinned)


def _source(address: str, fetch: partial[None]) -> CheckpointSource:
    return CheckpointSource(
        f"the hub's {address}", fetch, "clear the hub's own cache of it (hf cache rm), and begin again"
    )


def _commit(address: str, repository: str, revision: str | None, before: str | None) -> str:
    """What a branch or tag points at; `before` or what lies in the hub's own cache, if the hub does not answer."""
    if revision is not None and re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    try:
        info = HfApi().model_info(repository, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        return str(info.sha)
    except HFValidationError:
        raise _not_given(address, "it is no hub id") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status < 500 and status != HTTPStatus.TOO_MANY_REQUESTS:
            raise _not_given(address, f"{type(error).__name__}, status {status}") from None
        outage: Exception = error
    except Exception as error:  # the hub's client has changed the library whose errors these are
        outage = error
    commit = before or _downloaded(address, repository, revision, outage)
    logger.warning("the hub does not answer (%s); %s stays at the commit %s", type(outage).__name__, address, commit)
    return commit


def _downloaded(address: str, repository: str, revision: str | None, outage: Exception) -> str:
    try:
        snapshot = snapshot_download(repository, revision=revision, allow_patterns=PATTERNS, local_files_only=True)
        return Path(snapshot).name
    except LocalEntryNotFoundError:
        raise _not_given(address, type(outage).__name__) from None


def _fetch_revision(address: str, repository: str, revision: str | None, folder: Path) -> None:
    _fetch(address, repository, _commit(address, repository, revision, None), folder)


def _fetch(address: str, repository: str, commit: str, folder: Path) -> None:
    try:
        snapshot = Path(snapshot_download(repository, revision=commit, allow_patterns=PATTERNS))
    except Exception as error:  # of the hub, of the network, of the disk that the hub's own cache is on
        raise _not_given(address, type(error).__name__) from None
    try:
        names = files_of(snapshot, address)
    except CheckpointError as refused:
        with suppress(HfHubHTTPError):  # who can't be asked any more adds nothing
            refuse_unsafe(HfApi().list_repo_files(repository, revision=commit), address)
        raise refused from None
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        _link(snapshot / name, folder / name)


def _link(path: Path, target: Path) -> None:
    """The same file under another name, or a copy where the disk is another one."""
    try:
        os.link(path.resolve(), target)
    except OSError:
        shutil.copyfile(path, target)


def _not_given(address: str, reason: str) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"model {address!r} is not a folder, and the hub does not give it ({reason}); check the address, log in "
        '(HF_TOKEN) if it is private, or use "embedded"'
    )
