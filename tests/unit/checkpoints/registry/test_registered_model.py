"""Registered models: model URIs, the registry that resolves them, and outages."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import pytest

from gliclass_spark import gliclass_udf
from gliclass_spark.checkpoints.cache import Cache
from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.checkpoints.registry import Registry
from gliclass_spark.checkpoints.registry.server import SHORT_TIMEOUTS, default_settings
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.errors import ConfigError, ModelNotFoundError, RegistryError, RegistryUnreachableError
from gliclass_spark.inference.engine import Engine
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.evaluation.baselines import similarity_checkpoint
from gliclass_spark.training.evaluation.comparison import BaselineComparison

DOWN = "http://127.0.0.1:9"


def take_down(registry: Registry) -> None:
    """Remove the file of a SQLite registry, which makes it unreachable."""
    Path(registry.uri.removeprefix("sqlite:///")).unlink()


class TestModelUri:
    @pytest.mark.parametrize("uri", ["models:/mail", "models:/mail@", "models:/../x/3", "models:/mail/latest"])
    def test_an_invalid_uri_is_refused_where_it_is_written(self, uri: str, tmp_path: Path) -> None:
        with pytest.raises(ModelNotFoundError, match="is no registered model; write models:/NAME@champion or models:/"):
            resolve_model(uri)
        with pytest.raises(ConfigError, match=r"model: .* is no registered model; write models:/NAME@champion"):
            pipeline(tmp_path, uri)

    def test_a_pipeline_file_keeps_the_uri_as_it_is(self, tmp_path: Path) -> None:
        assert pipeline(tmp_path, "models:/mail@champion").model == "models:/mail@champion"

    def test_a_name_that_is_invalid_in_a_uri_is_not_registered(self, registry: Registry, tiny_model: str) -> None:
        with pytest.raises(RegistryError, match="'e mail' can't be the name of a model; use letters"):
            registry.register("e mail", Path(tiny_model), "run")


class TestRegistryArgument:
    def test_a_model_is_resolved_in_the_registry_that_is_passed_and_the_environment_stays_as_it_is(
        self, two_versions: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
        environment = dict(os.environ)
        ref = resolve_model("models:/mail@champion", registry=two_versions.uri)
        assert (ref.digest, ref.registry) == (two_versions.version("mail", "champion").digest, two_versions.uri)
        assert Engine.from_pretrained("models:/mail@champion", registry=two_versions.uri, device="cpu").ref == ref
        assert dict(os.environ) == environment

    def test_functions_and_baselines_resolve_their_model_in_the_registry_that_is_passed(
        self, two_versions: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path / "elsewhere")
        uri, registry = "models:/mail@champion", two_versions.uri
        texts = LabelledSet("mail", ("spam", "lake"), ("a lake", "buy now"), ((1,), (0,)))
        comparison = BaselineComparison([texts], [], max_rows=2, registry=registry)
        scores = comparison.scores([uri], baselines=True, cross_encoder=None, shots=0, seeds=0)
        assert [score.contender for score in scores] == [uri, f"similarity of {uri}"]
        assert callable(gliclass_udf(["spam"], model=uri, registry=registry))
        for unresolved in (lambda: gliclass_udf(["spam"], model=uri), lambda: similarity_checkpoint(uri)):
            with pytest.raises(ModelNotFoundError, match="is unreachable"):
                unresolved()

    def test_a_worker_fetches_by_digest_from_the_registry_of_the_reference(
        self, two_versions: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
        ref = resolve_model("models:/mail@champion", registry=two_versions.uri)
        two_versions.promote("mail")
        shutil.rmtree(tmp_path / "cache")  # the worker's machine
        assert resolve_model(ref.uri, ref.digest, ref.registry) == ref

    def test_a_password_in_the_uri_of_the_registry_is_not_shown(self) -> None:
        ref = ModelRef("models:/mail@champion", Path("folder"), "0" * 64, registry="http://user:secret@host")
        assert "secret" not in repr(ref)


def pipeline(folder: Path, model: str) -> Pipeline:
    (folder / "pipeline.yaml").write_text(
        f"name: mail\nsource: {{path: mail, id: id, text: body}}\nlabel_set: [spam]\ntables: lake\nmodel: {model!r}\n"
    )
    return Pipeline.from_yaml(folder / "pipeline.yaml")


class TestOutage:
    def test_a_uri_resolves_to_its_last_digest_with_a_warning(
        self, two_versions: Registry, caplog: pytest.LogCaptureFixture, tmp_path: Path
    ) -> None:
        ref = resolve_model("models:/mail@champion")
        [record] = (tmp_path / "cache" / "models" / "addresses").iterdir()
        resolved_at = json.loads(record.read_text())["resolved_at"]
        take_down(two_versions)
        with caplog.at_level(logging.WARNING):
            assert resolve_model("models:/mail@champion") == ref
        [warning] = caplog.messages
        assert f"the model registry at {two_versions.uri} is unreachable" in warning
        assert f"models:/mail@champion resolved to at {resolved_at}: digest {ref.digest[:12]}" in warning

    def test_an_unreachable_server_is_an_outage(
        self, two_versions: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        ref = resolve_model("models:/mail@champion")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", DOWN)
        with pytest.raises(
            ModelNotFoundError, match=f"'models:/mail@champion' can't be resolved.*at {DOWN} is unreachable"
        ):
            resolve_model("models:/mail@champion")
        # As if that server had resolved it before.
        Cache.default().record_resolution(DOWN, "models:/mail@champion", ref.digest)
        assert resolve_model("models:/mail@champion") == ref
        assert f"at {DOWN} is unreachable" in caplog.text

    def test_a_digest_in_the_cache_needs_no_registry(
        self, two_versions: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ref = resolve_model("models:/mail@champion")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", DOWN)
        assert resolve_model("models:/mail@champion", ref.digest) == ref
        with pytest.raises(
            ModelNotFoundError, match=f"with the digest 000000000000 are not in .*at {DOWN} is unreachable"
        ):
            resolve_model("models:/mail@champion", "0" * 64)

    def test_a_removed_alias_is_no_outage(self, two_versions: Registry) -> None:
        resolve_model("models:/mail@challenger")
        two_versions.promote("mail")
        with pytest.raises(ModelNotFoundError, match="has no version or alias 'challenger'; it has 1 = previous, 2 ="):
            resolve_model("models:/mail@challenger")

    def test_a_query_does_not_create_a_missing_registry(self, tmp_path: Path) -> None:
        with pytest.raises(RegistryUnreachableError, match=f"there is no file {tmp_path}/none.db"):
            Registry(f"sqlite:///{tmp_path}/none.db").versions("mail")
        assert list(tmp_path.iterdir()) == []

    def test_timeouts_are_short_unless_the_user_sets_them(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "300")
        with default_settings(SHORT_TIMEOUTS):
            assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "2"
            assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "300"
        assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ

    def test_a_password_in_the_tracking_uri_is_not_in_messages(self) -> None:
        with pytest.raises(RegistryUnreachableError) as raised:
            Registry("http://user:secret@127.0.0.1:9").versions("mail")
        assert "http://***@127.0.0.1:9" in str(raised.value)
        assert "secret" not in str(raised.value)

    def test_a_signature_in_the_address_of_the_files_is_not_in_messages(self, two_versions: Registry) -> None:
        address = f"{DOWN}/files?X-Amz-Signature=SECRET&X-Amz-Credential=KEY"
        two_versions._client.create_model_version("mail", address, tags={"gliclass_spark.digest": "0" * 64})
        with pytest.raises(ModelNotFoundError, match=r"models:/mail/3 is registered .* can't be fetched") as raised:
            resolve_model("models:/mail/3")
        assert "SECRET" not in str(raised.value)
        assert "KEY" not in str(raised.value)
