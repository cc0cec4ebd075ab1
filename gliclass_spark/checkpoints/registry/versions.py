"""Versions of registered models in MLflow, and the aliases champion, challenger and previous."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from gliclass_spark.checkpoints.digest import digest_of, is_digest
from gliclass_spark.checkpoints.files import (
    LABEL_TOKENIZER,
    checkpoint_files,
    has_file,
    is_checkpoint_file,
    refuse_unsafe,
)
from gliclass_spark.checkpoints.registry import server
from gliclass_spark.checkpoints.registry.promotions import Aliases, ChampionPromotion
from gliclass_spark.checkpoints.registry.tracking import TrackedRun, tracked_run
from gliclass_spark.config.model_uri import CHALLENGER, CHAMPION, MODEL_NAME, PREVIOUS
from gliclass_spark.errors import CheckpointError, ModelNotFoundError, RegistryError
from gliclass_spark.redaction import without_secrets

if TYPE_CHECKING:
    from mlflow import MlflowClient

LABEL_SET_FILE = "label_set.yaml"
_DIGEST_TAG = "gliclass_spark.digest"
_LABEL_SET_TAG = "gliclass_spark.label_set_digest"
_MAX_LISTED = 10
_DATABRICKS_SCHEMES = {"databricks", "databricks-uc", "uc"}


@dataclass(frozen=True)
class ModelVersion:
    """One version of a registered model.

    digest: SHA-256 of weights, configuration and tokenizer, as `ModelRef.digest`; "" if the version was not
    registered by `Registry.register`. source: where MLflow keeps the files. label_set_digest: SHA-256 of the label set
    that was registered with them, "" without one.
    """

    name: str
    number: int
    digest: str
    aliases: tuple[str, ...]
    created_at: datetime
    run_id: str | None
    source: str
    tags: Mapping[str, str]
    label_set_digest: str = ""

    @property
    def uri(self) -> str:
        """The model URI of exactly this version: models:/NAME/NUMBER."""
        return f"models:/{self.name}/{self.number}"


class Registry:
    """Registered models at an MLflow tracking URI.

    uri: None takes the environment variable MLFLOW_TRACKING_URI (and MLFLOW_REGISTRY_URI, if the models are
    elsewhere), and without it sqlite:///mlflow.db in the current folder. Nothing is opened before the first call.
    All methods raise RegistryError, RegistryUnreachableError, and ModelNotFoundError for a model or version that
    does not exist.
    """

    def __init__(self, uri: str | None = None) -> None:
        self.uri = server.tracking_uri(uri)
        self._registry_uri = uri or os.environ.get("MLFLOW_REGISTRY_URI") or self.uri

    def __str__(self) -> str:
        return without_secrets(self.uri)

    def run(self, experiment: str, name: str, parameters: Mapping[str, object]) -> AbstractContextManager[TrackedRun]:
        """Start an MLflow run with these parameters; its status is FAILED if the block raises, else FINISHED.

        Its tags are the versions of Python, torch, transformers and this package.
        """
        return tracked_run(self._client, self.uri, experiment, name, parameters)

    def register(self, name: str, folder: Path, run_id: str, tags: Mapping[str, str] | None = None) -> ModelVersion:
        """Upload a checkpoint into the artifacts of a run, as a new version without an alias, and return it.

        Idempotent: the same files in the same run return the version that they have. Raises CheckpointError for a
        folder without safetensors; nothing is uploaded then.
        """
        if not MODEL_NAME.fullmatch(name):
            raise RegistryError(f"{name!r} can't be the name of a model; use letters, digits, '_', '-' and '.'")
        digest, client = digest_of(folder), self._client
        with server.registry_errors(self.uri):
            _create_model(client, name)
        for version in reversed(self.versions(name)):
            if (version.run_id, version.digest) == (run_id, digest):
                return version
        files = [file for file in (*checkpoint_files(folder), LABEL_SET_FILE) if has_file(folder, file)]
        # Named by digest, so that a run's second checkpoint does not overwrite the first.
        artifact_folder = f"model-{digest[:12]}"
        with server.registry_errors(self.uri), server.default_settings(server.QUIET):
            for file in files:
                client.log_artifact(run_id, str(folder / file), str(Path(artifact_folder, file).parent))
            source = f"{client.get_run(run_id).info.artifact_uri}/{artifact_folder}"
            digests = {_DIGEST_TAG: digest, _LABEL_SET_TAG: _label_set_digest(folder)}
            known = {tag: value for tag, value in digests.items() if value}
            created = client.create_model_version(name, source, run_id, tags={**(tags or {}), **known})
        return self.version(name, str(created.version))

    def record_digests(self, name: str, number: str, folder: Path) -> None:
        """Tag a version that MLflow itself registered with the digests of its files, so that runs can verify them."""
        digests = {_DIGEST_TAG: digest_of(folder), _LABEL_SET_TAG: _label_set_digest(folder)}
        with server.registry_errors(self.uri):
            for tag, digest in digests.items():
                self._client.set_model_version_tag(name, number, tag, digest)

    def registered(self, name: str, folder: Path) -> ModelVersion | None:
        """Return the latest version with the files of this checkpoint and its label set, None if there is none.

        A version whose files in the artifact store are lost or damaged does not count.
        """
        database = server.sqlite_file(self.uri)
        if database is not None and not database.exists():
            return None
        digest, label_set = digest_of(folder), _label_set_digest(folder)
        try:
            versions = self.versions(name)
        except ModelNotFoundError:
            return None
        same = [version for version in versions if (version.digest, version.label_set_digest) == (digest, label_set)]
        return next((version for version in reversed(same) if self._is_intact(version)), None)

    def version(self, name: str, selector: str) -> ModelVersion:
        """Return a version by its number, as "3", or by an alias, as "champion"."""
        versions = self.versions(name)
        for version in versions:
            if selector == str(version.number) or selector in version.aliases:
                return version
        existing = ", ".join(" = ".join((str(v.number), *v.aliases)) for v in versions[-_MAX_LISTED:])
        raise ModelNotFoundError(
            f"model {name!r} in {self} has no version or alias {selector!r}; it has {existing or 'none'}"
        )

    def with_digest(self, name: str, digest: str) -> ModelVersion:
        """Return the latest version with this digest, whatever its aliases."""
        versions = self.versions(name)
        for version in reversed(versions):
            if version.digest == digest:
                return version
        raise ModelNotFoundError(
            f"none of the {len(versions)} versions of model {name!r} in {self} has the digest {digest[:12]}; register "
            "that checkpoint again"
        )

    def versions(self, name: str) -> list[ModelVersion]:
        """Return all versions, oldest first."""
        with self._query() as client:
            from mlflow.exceptions import MlflowException

            try:
                aliases: dict[str, str] = client.get_registered_model(name).aliases
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                raise ModelNotFoundError(
                    f"there is no model {name!r} in {self}; check the name, or choose the registry with --registry or "
                    "MLFLOW_TRACKING_URI"
                ) from None
            versions, token = [], None
            while True:
                page = client.search_model_versions(f"name = '{name}'", page_token=token)
                versions += [_model_version(entity, aliases) for entity in page]
                token = page.token
                if not token:
                    return sorted(versions, key=lambda version: version.number)

    def set_challenger(self, name: str, version: ModelVersion | str) -> ModelVersion:
        """Give a version the alias "challenger"."""
        number = self.version(name, str(version.number) if isinstance(version, ModelVersion) else version).number
        with self._aliases(name) as aliases:
            aliases.set(CHALLENGER, number)
        return self.version(name, str(number))

    def promote(self, name: str, selector: str = CHALLENGER) -> ModelVersion:
        """Make a version the champion, and the former champion the previous version.

        There is a champion at any moment; repeating an interrupted promotion completes it. Raises RegistryError for
        the alias "previous", which a promotion moves.
        """
        if selector == PREVIOUS:
            raise RegistryError(f"a promotion moves the alias {PREVIOUS!r}; give the version's number, or use rollback")
        with self._aliases(name) as aliases:
            number = (
                aliases.promote_challenger()
                if selector == CHALLENGER
                else aliases.promote(self.version(name, selector))
            )
        return self.version(name, str(number))

    def promote_first(self, name: str) -> None:
        """Make the first version the champion if there is no champion."""
        with self._aliases(name) as aliases:
            complete = [version for version in aliases.versions if version.digest]
            if aliases.holder(CHAMPION) is None and complete:
                aliases.promote(complete[0])

    def rollback(self, name: str, selector: str | None = None) -> ModelVersion:
        """Make a version the champion again: None is the one before the last promotion, also of an interrupted one.

        The former champion becomes the previous version. Repeating a rollback completes it, and changes nothing if it
        was complete. Raises ModelNotFoundError if there is no version to go back to.
        """
        with self._aliases(name) as aliases:
            number = aliases.rollback(self.version(name, selector) if selector is not None else None)
        return self.version(name, str(number))

    def was_rolled_back(self, version: ModelVersion) -> bool:
        """Return whether the model's last promotion was one of this version, and was rolled back."""
        with self._aliases(version.name) as aliases:
            return aliases.rolled_back(version)

    def last_promotion(self, name: str) -> ChampionPromotion | None:
        """Return the promotion that is in force; None after a rollback, and if the champion replaced no version."""
        with self._aliases(name) as aliases:
            return aliases.promotion()

    def set_tag(self, version: ModelVersion, tag: str, value: str) -> None:
        """Set a tag of a version."""
        with self._query() as client:
            client.set_model_version_tag(version.name, str(version.number), tag, value)

    def download(self, version: ModelVersion, folder: Path) -> None:
        """Download the files of a checkpoint, and no others. Raises CheckpointError if its weights are pickled."""
        try:
            with server.default_settings(server.QUIET):
                self._download(version, folder)
        except CheckpointError:
            raise
        except Exception as error:  # each artifact store raises errors of its own
            reason = without_secrets(" ".join(str(error).split()))[:200]
            raise ModelNotFoundError(
                f"{version.uri} is registered in {self}, but its files in {without_secrets(version.source)} "
                f"can't be fetched ({type(error).__name__}: {reason}); fix that store, or register the checkpoint again"
            ) from None

    def _is_intact(self, version: ModelVersion) -> bool:
        with TemporaryDirectory() as folder:
            try:
                self.download(version, Path(folder))
                return digest_of(Path(folder)) == version.digest
            except (CheckpointError, ModelNotFoundError):
                return False

    def _download(self, version: ModelVersion, folder: Path) -> None:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        artifacts: Any = get_artifact_repository(self._artifact_uri(version), self.uri, self._registry_uri)
        names = [file.path for file in artifacts.list_artifacts("")]
        refuse_unsafe(names, version.uri)
        if LABEL_TOKENIZER in names:
            names += [file.path for file in artifacts.list_artifacts(LABEL_TOKENIZER)]
        for name in names:
            if is_checkpoint_file(name):
                artifacts.download_artifacts(name, str(folder))

    def _artifact_uri(self, version: ModelVersion) -> str:
        # For a models:/ URI, MLflow looks the version up in the environment's registry, except for Databricks'.
        if self._registry_uri.partition(":")[0] in _DATABRICKS_SCHEMES:
            return version.uri
        return str(self._client.get_model_version_download_uri(version.name, str(version.number)))

    @cached_property
    def _client(self) -> MlflowClient:
        return server.connect(self.uri, self._registry_uri)

    @contextmanager
    def _query(self) -> Iterator[MlflowClient]:
        """Yield the client with short timeouts, for requests that take no time on a healthy server."""
        database = server.sqlite_file(self.uri)
        if database is not None and not database.exists():
            # MLflow would create an empty one.
            raise server.unreachable(self.uri, f"there is no file {database}")
        with server.default_settings(server.QUIET | server.SHORT_TIMEOUTS):
            client = self._client
            with server.registry_errors(self.uri):
                yield client

    @contextmanager
    def _aliases(self, name: str) -> Iterator[Aliases]:
        versions = self.versions(name)
        with self._query() as client:
            yield Aliases(client, str(self), name, versions)


def _create_model(client: MlflowClient, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def _label_set_digest(folder: Path) -> str:
    file = folder / LABEL_SET_FILE
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else ""


def _model_version(entity: Any, aliases: Mapping[str, str]) -> ModelVersion:
    number, tags = int(entity.version), dict(entity.tags)
    digest, label_set_digest = tags.pop(_DIGEST_TAG, ""), tags.pop(_LABEL_SET_TAG, "")
    return ModelVersion(
        name=entity.name,
        number=number,
        digest=digest if is_digest(digest) else "",
        aliases=tuple(sorted(alias for alias, holder in aliases.items() if int(holder) == number)),
        created_at=datetime.fromtimestamp(entity.creation_timestamp / 1000, UTC),
        run_id=entity.run_id or None,
        source=entity.source,
        tags=tags,
        label_set_digest=label_set_digest,
    )
