"""Registered models while the registry is down, and the cache that holds them meanwhile."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gliclass_spark.checkpoints.cache import Cache
from gliclass_spark.checkpoints.files import WEIGHTS
from gliclass_spark.checkpoints.registry import Registry
from gliclass_spark.checkpoints.registry.server import SHORT_TIMEOUTS, default_settings
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import ModelNotFoundError, RegistryUnreachableError

DOWN = "http://127.0.0.1:9"
# Slow, so that the second process comes while the first is at it.
SLOW_FETCH = """
import shutil, sys, time
from gliclass_spark.checkpoints.cache import Cache, CheckpointSource

digest, source, counted = sys.argv[1:]

def fetch(folder):
    with open(counted, "a") as file:
        file.write("fetched\\n")
    time.sleep(2)
    shutil.copytree(source, folder, dirs_exist_ok=True)

print(Cache.default().checkpoint(digest, CheckpointSource("the source", fetch, "try again")))
"""


def cached(tmp_path: Path, digest: str) -> Path:
    return tmp_path / "cache" / "models" / digest


def take_down(registry: Registry) -> None:
    """A SQLite registry is down when its file is gone."""
    Path(registry.uri.removeprefix("sqlite:///")).unlink()


class TestCache:
    @pytest.mark.parametrize("damage", ["cut", "gone"])
    def test_a_damaged_copy_is_fetched_again(
        self, two: Registry, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        ref = resolve_model("models:/mail@champion")
        weights = ref.folder / WEIGHTS
        sound = weights.read_bytes()
        weights.unlink() if damage == "gone" else weights.write_bytes(sound[:-1])
        assert resolve_model("models:/mail@champion") == ref
        assert weights.read_bytes() == sound
        assert f"{ref.folder} was damaged; it was fetched again" in caplog.text
        assert {path.name for path in ref.folder.parent.iterdir()} == {ref.digest, f"{ref.digest}.lock", "addresses"}

    def test_a_damaged_copy_is_not_used_while_the_registry_is_down(self, two: Registry) -> None:
        weights = resolve_model("models:/mail@champion").folder / WEIGHTS
        weights.write_bytes(weights.read_bytes()[:-1])
        take_down(two)
        with pytest.raises(
            ModelNotFoundError, match="holds no intact copy of the files that it resolved to before: the"
        ):
            resolve_model("models:/mail@champion")

    def test_two_processes_that_fetch_at_once_leave_one_good_copy(self, tmp_path: Path, tiny_model: str) -> None:
        digest, counted = resolve_model(tiny_model).digest, tmp_path / "counted"
        environment = {**os.environ, "GLICLASS_SPARK_CACHE": str(tmp_path / "cache")}
        cached(tmp_path, f"{digest}.new").mkdir(parents=True)  # left behind by a process that was killed
        command = [sys.executable, "-c", SLOW_FETCH, digest, tiny_model, str(counted)]
        both = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        assert [each.communicate()[0].strip() for each in both] == [str(cached(tmp_path, digest))] * 2
        assert counted.read_text() == "fetched\n"
        assert resolve_model(str(cached(tmp_path, digest))).digest == digest
        assert {path.name for path in (tmp_path / "cache" / "models").iterdir()} == {digest, f"{digest}.lock"}


class TestOutage:
    def test_an_address_stands_for_what_it_stood_for_before_with_a_warning(
        self, two: Registry, caplog: pytest.LogCaptureFixture, tmp_path: Path
    ) -> None:
        ref = resolve_model("models:/mail@champion")
        [record] = (tmp_path / "cache" / "models" / "addresses").iterdir()
        resolved_at = json.loads(record.read_text())["resolved_at"]
        take_down(two)
        with caplog.at_level(logging.WARNING):
            assert resolve_model("models:/mail@champion") == ref
        [warning] = caplog.messages
        assert f"the model registry at {two.uri} is unreachable" in warning
        assert f"models:/mail@champion resolved to at {resolved_at}: digest {ref.digest[:12]}" in warning

    def test_a_server_that_does_not_answer_is_an_outage_too(
        self, two: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
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

    def test_a_digest_that_is_on_this_machine_needs_no_registry(
        self, two: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ref = resolve_model("models:/mail@champion")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", DOWN)
        assert resolve_model("models:/mail@champion", ref.digest) == ref
        with pytest.raises(
            ModelNotFoundError, match=f"with the digest 000000000000 are not in .*at {DOWN} is unreachable"
        ):
            resolve_model("models:/mail@champion", "0" * 64)

    def test_an_alias_that_is_gone_is_no_outage(self, two: Registry) -> None:
        resolve_model("models:/mail@challenger")
        two.promote("mail")
        with pytest.raises(ModelNotFoundError, match="has no version or alias 'challenger'; it has 1 = previous, 2 ="):
            resolve_model("models:/mail@challenger")

    def test_a_registry_that_was_never_there_is_not_created_by_asking_it(self, tmp_path: Path) -> None:
        with pytest.raises(RegistryUnreachableError, match=f"there is no file {tmp_path}/none.db"):
            Registry(f"sqlite:///{tmp_path}/none.db").versions("mail")
        assert list(tmp_path.iterdir()) == []

    def test_mlflow_gives_up_soon_but_where_the_user_says_otherwise(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", raising=False)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "300")
        with default_settings(SHORT_TIMEOUTS):
            assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "2"
            assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "300"
        assert "MLFLOW_HTTP_REQUEST_MAX_RETRIES" not in os.environ

    def test_a_password_in_the_uri_is_not_told(self) -> None:
        with pytest.raises(RegistryUnreachableError) as raised:
            Registry("http://user:secret@127.0.0.1:9").versions("mail")
        assert "http://127.0.0.1:9" in str(raised.value)
        assert "secret" not in str(raised.value)
