"""Checkpoints on the Hugging Face hub: a branch is resolved to a commit, and the files are those of the commit."""

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
from gliclass_spark.checkpoints.files import PATTERNS, checkpoint_files, refuse_unsafe
from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.config.model_uri import hub_model
from gliclass_spark.errors import CheckpointError, ModelNotFoundError

logger = logging.getLogger(__name__)


def resolve_hub_model(uri: str, digest: str | None = None) -> ModelRef:
    """Return the checkpoint at org/name or org/name@revision; its `pinned` URI names the commit.

    digest: return the files with this digest, from the cache without network access if they are there. While the
    hub is unreachable, a URI resolves to the commit that it had last, with a warning. Raises ModelNotFoundError,
    CheckpointError.
    """
    try:
        repository, revision = hub_model(uri)
    except ValueError:
        raise _not_available(uri, "it is no hub id") from None
    cache = Cache.default()
    if digest is not None:
        fetch = partial(_fetch_revision, uri, repository, revision)
        return ModelRef(uri, cache.checkpoint(digest, _source(uri, fetch)), digest)
    last = cache.last_resolution(constants.ENDPOINT, uri)
    commit = _commit(uri, repository, revision, last.state if last is not None else None)
    pinned = f"{repository}@{commit}"
    if pinned != uri and (last is None or last.state != commit):
        logger.warning("%s is at the commit %s now; write %s to stay with it", uri, commit, pinned)
    source = _source(uri, partial(_fetch_commit, uri, repository, commit))
    digest = cache.current_digest(constants.ENDPOINT, uri, commit, source)
    return ModelRef(uri, cache.root / digest, digest, pinned)


def _source(uri: str, fetch: partial[None]) -> CheckpointSource:
    return CheckpointSource(f"the hub's {uri}", fetch, "clear the hub's own cache of it (hf cache rm), and try again")


def _commit(uri: str, repository: str, revision: str | None, last_commit: str | None) -> str:
    """Return the commit of a branch or tag; if the hub is unreachable, `last_commit` or that of the hub's own cache."""
    if revision is not None and re.fullmatch(r"[0-9a-f]{40}", revision):
        return revision
    try:
        info = HfApi().model_info(repository, revision=revision, timeout=constants.HF_HUB_ETAG_TIMEOUT)
        return str(info.sha)
    except HFValidationError:
        raise _not_available(uri, "it is no hub id") from None
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status < 500 and status != HTTPStatus.TOO_MANY_REQUESTS:
            raise _not_available(uri, f"{type(error).__name__}, status {status}") from None
        outage: Exception = error
    except Exception as error:  # connection errors: their classes depend on the version of the hub's client
        outage = error
    commit = last_commit or _commit_in_hub_cache(uri, repository, revision, outage)
    logger.warning("the hub is unreachable (%s); %s stays at the commit %s", type(outage).__name__, uri, commit)
    return commit


def _commit_in_hub_cache(uri: str, repository: str, revision: str | None, outage: Exception) -> str:
    try:
        snapshot = snapshot_download(repository, revision=revision, allow_patterns=PATTERNS, local_files_only=True)
        return Path(snapshot).name
    except LocalEntryNotFoundError:
        raise _not_available(uri, type(outage).__name__) from None


def _fetch_revision(uri: str, repository: str, revision: str | None, folder: Path) -> None:
    _fetch_commit(uri, repository, _commit(uri, repository, revision, None), folder)


def _fetch_commit(uri: str, repository: str, commit: str, folder: Path) -> None:
    try:
        snapshot = Path(snapshot_download(repository, revision=commit, allow_patterns=PATTERNS))
    except Exception as error:  # of the hub, the network, or the disk of the hub's own cache
        raise _not_available(uri, type(error).__name__) from None
    try:
        names = checkpoint_files(snapshot, uri)
    except CheckpointError as refused:
        # The snapshot lacks other files, as pickled weights: with their names the message is more precise.
        with suppress(HfHubHTTPError):
            refuse_unsafe(HfApi().list_repo_files(repository, revision=commit), uri)
        raise refused from None
    for name in names:
        (folder / name).parent.mkdir(exist_ok=True)
        _link_or_copy(snapshot / name, folder / name)


def _link_or_copy(path: Path, target: Path) -> None:
    """Hard-link the file, or copy it if the target is on another disk."""
    try:
        os.link(path.resolve(), target)
    except OSError:
        shutil.copyfile(path, target)


def _not_available(uri: str, reason: str) -> ModelNotFoundError:
    return ModelNotFoundError(
        f"model {uri!r} is not a folder, and not available on the hub ({reason}); check the model URI, log in "
        '(HF_TOKEN) if it is private, or use "embedded"'
    )
