"""The cache of checkpoints: damaged copies, concurrent processes, and records of earlier versions."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gliclass_spark.checkpoints.cache import Cache, Resolution
from gliclass_spark.checkpoints.files import WEIGHTS
from gliclass_spark.checkpoints.registry import Registry
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import ModelNotFoundError

# Slow, so that the second process starts while the first is fetching.
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


@pytest.mark.parametrize("damage", ["truncated", "removed"])
def test_a_damaged_copy_is_fetched_again(
    two_versions: Registry, tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    ref = resolve_model("models:/mail@champion")
    weights = ref.folder / WEIGHTS
    content = weights.read_bytes()
    weights.unlink() if damage == "removed" else weights.write_bytes(content[:-1])
    assert resolve_model("models:/mail@champion") == ref
    assert weights.read_bytes() == content
    assert f"{ref.folder} was damaged; it was fetched again" in caplog.text
    assert {path.name for path in ref.folder.parent.iterdir()} == {ref.digest, f"{ref.digest}.lock", "addresses"}


def test_a_damaged_copy_is_not_used_while_the_registry_is_down(two_versions: Registry) -> None:
    weights = resolve_model("models:/mail@champion").folder / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])
    Path(two_versions.uri.removeprefix("sqlite:///")).unlink()  # the registry is down
    with pytest.raises(ModelNotFoundError, match="holds no intact copy of the files that it resolved to before: the"):
        resolve_model("models:/mail@champion")


def test_of_two_concurrent_processes_one_fetches(tmp_path: Path, tiny_model: str) -> None:
    digest, counted = resolve_model(tiny_model).digest, tmp_path / "counted"
    environment = {**os.environ, "GLICLASS_SPARK_CACHE": str(tmp_path / "cache")}
    cached(tmp_path, f"{digest}.new").mkdir(parents=True)  # left behind by a process that was killed
    command = [sys.executable, "-c", SLOW_FETCH, digest, tiny_model, str(counted)]
    processes = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0].strip() for process in processes] == [str(cached(tmp_path, digest))] * 2
    assert counted.read_text() == "fetched\n"
    assert resolve_model(str(cached(tmp_path, digest))).digest == digest
    assert {path.name for path in (tmp_path / "cache" / "models").iterdir()} == {digest, f"{digest}.lock"}


def test_a_record_of_version_0_1_is_read(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    cache.record_resolution("store", "s3://lake/mail", "0" * 64, "etag")
    [record] = tmp_path.glob("addresses/*.json")
    old = {"address": "s3://lake/mail", "digest": "1" * 64, "asked_at": "2026-01-01T00:00:00+00:00", "state": "etag"}
    record.write_text(json.dumps(old))
    assert cache.last_resolution("store", "s3://lake/mail") == Resolution("1" * 64, old["asked_at"], "etag")
