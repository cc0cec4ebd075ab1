"""The versions of a model, and the aliases that say which of them counts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gliclass_spark.checkpoints.digest import digest_of, is_digest
from gliclass_spark.checkpoints.files import LABEL_TOKENIZER, belongs, files_of, refuse_unsafe
from gliclass_spark.checkpoints.registry import server
from gliclass_spark.checkpoints.registry.tracking import Tracked, tracked
from gliclass_spark.config.model_uri import CHALLENGER, CHAMPION, MODEL_NAME, PREVIOUS
from gliclass_spark.errors import CheckpointError, ModelNotFoundError, RegistryError

if TYPE_CHECKING:
    from mlflow import MlflowClient

LABEL_SET_FILE = "label_set.yaml"
_DIGEST_TAG = "gliclass_spark.digest"
_LISTED = 10


@dataclass(frozen=True)
class Version:
    """One version of a registered model.

    digest: SHA-256 of weights, configuration and tokenizer, as `ModelRef.digest`; "" if the version
    was not registered by `Registry.register`. source: where MLflow keeps the files.
    """

    name: str
    number: int
    digest: str
    aliases: tuple[str, ...]
    created_at: datetime
    run_id: str | None
    source: str
    tags: Mapping[str, str]

    @property
    def address(self) -> str:
        """What `resolve_model` takes for just this version."""
        return f"models:/{self.name}/{self.number}"


class Registry:
    """Registered models at an MLflow tracking URI.

    `uri` None takes the environment variable MLFLOW_TRACKING_URI (and MLFLOW_REGISTRY_URI, if the models
    are elsewhere), and without it sqlite:///mlflow.db in the current folder. Nothing is opened before the
    first call. All methods raise RegistryError, RegistryUnreachableError, and ModelNotFoundError for a
    model or version that does not exist.
    """

    def __init__(self, uri: str | None = None) -> None:
        self.uri = server.tracking_uri(uri)
        self._registry_uri = uri or os.environ.get("MLFLOW_REGISTRY_URI") or self.uri

    def run(self, experiment: str, name: str, parameters: Mapping[str, object]) -> AbstractContextManager[Tracked]:
        """An MLflow run: its parameters, and the versions of Python, torch, transformers and this package as tags.

        Its status is FAILED if the block raises, else FINISHED.
        """
        return tracked(self._client, self.uri, experiment, name, parameters)

    def register(self, name: str, folder: Path, run_id: str, tags: Mapping[str, str] | None = None) -> Version:
        """Upload a checkpoint into the artifacts of a run, as a new version, which has no alias yet.

        Done again for the same run and the same files, it gives the version of the first time. Raises
        CheckpointError for a folder without safetensors: nothing is uploaded.
        """
        if not MODEL_NAME.fullmatch(name):
            raise RegistryError(f"{name!r} can't be the name of a model; use letters, digits, '_', '-' and '.'")
        digest, client = digest_of(folder), self._client
        with server.answering(self.uri):
            _ensure(client, name)
        same = [each for each in self.versions(name) if (each.run_id, each.digest) == (run_id, digest)]
        if same:
            return same[-1]
        # By digest: a second checkpoint of the run must not be written over the first one's files.
        place = f"model-{digest[:12]}"
        with server.answering(self.uri):
            for file in (*files_of(folder), LABEL_SET_FILE):
                if (folder / file).is_file():
                    client.log_artifact(run_id, str(folder / file), str(Path(place, file).parent))
            source = f"{client.get_run(run_id).info.artifact_uri}/{place}"
            made = client.create_model_version(name, source, run_id, tags={**(tags or {}), _DIGEST_TAG: digest})
        return self.version(name, str(made.version))

    def version(self, name: str, which: str) -> Version:
        """A version by its number, as "3", or by an alias, as "champion"."""
        versions = self.versions(name)
        for each in versions:
            if which == str(each.number) or which in each.aliases:
                return each
        listed = ", ".join(" = ".join((str(each.number), *each.aliases)) for each in versions[-_LISTED:])
        raise ModelNotFoundError(
            f"model {name!r} in {server.shown(self.uri)} has no version or alias {which!r}; it has {listed or 'none'}"
        )

    def with_digest(self, name: str, digest: str) -> Version:
        """The latest version that has this digest, whatever its aliases."""
        versions = self.versions(name)
        for each in reversed(versions):
            if each.digest == digest:
                return each
        raise ModelNotFoundError(
            f"none of the {len(versions)} versions of model {name!r} in {server.shown(self.uri)} has the digest "
            f"{digest[:12]}; register that checkpoint again"
        )

    def versions(self, name: str) -> list[Version]:
        """All versions, the oldest first."""
        with self._asked() as client:
            from mlflow.exceptions import MlflowException

            try:
                aliases: dict[str, str] = client.get_registered_model(name).aliases
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                raise ModelNotFoundError(
                    f"there is no model {name!r} in {server.shown(self.uri)}; check the name, or say with --registry "
                    "or MLFLOW_TRACKING_URI which registry is meant"
                ) from None
            found, token = [], None
            while True:
                page = client.search_model_versions(f"name = '{name}'", page_token=token)
                found += [_version(each, aliases) for each in page]
                token = page.token
                if not token:
                    return sorted(found, key=lambda each: each.number)

    def challenge(self, name: str, version: Version | str) -> Version:
        """Give a version the alias "challenger"."""
        chosen = self.version(name, str(version.number) if isinstance(version, Version) else version)
        self._alias(CHALLENGER, chosen)
        return self.version(name, str(chosen.number))

    def promote(self, name: str, which: str = CHALLENGER) -> Version:
        """Make a version the champion, and the champion until now the previous one.

        A promotion that was interrupted is finished by doing it again: there is a champion at any moment.
        """
        if which == PREVIOUS:
            return self.rollback(name)
        chosen = self.version(name, which)
        former = self._holder(name, CHAMPION)
        # First of all: once the champion has moved, nothing else knows which one it was.
        if former is not None and former.number != chosen.number:
            self._alias(PREVIOUS, former)
        self._alias(CHAMPION, chosen)
        if CHALLENGER in chosen.aliases:
            with self._asked() as client:
                client.delete_registered_model_alias(name, CHALLENGER)
        return self.version(name, str(chosen.number))

    def rollback(self, name: str) -> Version:
        """Take the last promotion back: the previous version is the champion again, and the champion the previous.

        Raises ModelNotFoundError if there is nothing to go back to.
        """
        back = self._holder(name, PREVIOUS)
        if back is None or CHAMPION in back.aliases:
            raise ModelNotFoundError(
                f"model {name!r} in {server.shown(self.uri)} has no version before its champion to go back to; "
                "promote the version that you want by its number"
            )
        former = self._holder(name, CHAMPION)
        self._alias(CHAMPION, back)
        if former is not None:
            self._alias(PREVIOUS, former)
        return self.version(name, str(back.number))

    def download(self, version: Version, folder: Path) -> None:
        """Fetch the files of a checkpoint, and no others. Raises CheckpointError if its weights are pickled."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        try:
            artifacts: Any = get_artifact_repository(version.address, self.uri, self._registry_uri)
            names = [each.path for each in artifacts.list_artifacts("")]
            refuse_unsafe(names, version.address)
            if LABEL_TOKENIZER in names:
                names += [each.path for each in artifacts.list_artifacts(LABEL_TOKENIZER)]
            for name in names:
                if belongs(name):
                    artifacts.download_artifacts(name, str(folder))
        except CheckpointError:
            raise
        except Exception as error:  # each kind of store has errors of its own
            reason = " ".join(str(error).split())[:200]
            raise ModelNotFoundError(
                f"{version.address} is registered in {server.shown(self.uri)}, but its files in "
                f"{server.shown(version.source)} can't be fetched ({type(error).__name__}: {reason}); mend that store, "
                "or register the checkpoint again"
            ) from None

    @cached_property
    def _client(self) -> MlflowClient:
        return server.connect(self.uri, self._registry_uri)

    @contextmanager
    def _asked(self) -> Iterator[MlflowClient]:
        """The client, for a question that is soon answered."""
        database = server.sqlite_file(self.uri)
        if database is not None and not database.exists():
            # MLflow would create it, and find it empty.
            raise server.unreachable(self.uri, f"there is no file {database}")
        with server.briefly():
            client = self._client
            with server.answering(self.uri):
                yield client

    def _holder(self, name: str, alias: str) -> Version | None:
        return next((each for each in self.versions(name) if alias in each.aliases), None)

    def _alias(self, alias: str, version: Version) -> None:
        with self._asked() as client:
            client.set_registered_model_alias(version.name, alias, str(version.number))


def _ensure(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _version(found: Any, aliases: Mapping[str, str]) -> Version:
    number, tags = int(found.version), dict(found.tags)
    digest = tags.pop(_DIGEST_TAG, "")
    return Version(
        name=found.name,
        number=number,
        digest=digest if is_digest(digest) else "",
        aliases=tuple(sorted(alias for alias, holder in aliases.items() if int(holder) == number)),
        created_at=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
        run_id=found.run_id or None,
        source=found.source,
        tags=tags,
    )
