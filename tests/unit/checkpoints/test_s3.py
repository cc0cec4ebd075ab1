"""A checkpoint in S3: a real server on this machine, asked by s3fs over HTTP."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import s3fs
import served_files
from moto.server import ThreadedMotoServer

from gliclass_spark.checkpoints.cache import CACHE_VARIABLE
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import CheckpointError, ModelNotFoundError

FILES = {"config.json": b"{}", "model.safetensors": b"weights", "label_tokenizer/tokenizer.json": b"tokens"}
ADDRESS = "s3://lake/models/mail v1 [é] 100%"
KEY = ADDRESS.removeprefix("s3://")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=True)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The bucket "lake" with a checkpoint in it, among files that are none of its own."""
    for name in [each for each in os.environ if each.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem()
    system.mkdir("lake")
    for name, content in {**FILES, "README.md": b"", "pytorch_model.bin": b"\x80\x04."}.items():
        system.pipe_file(f"{KEY}/{name}", content)
    yield system
    system.rm("lake", recursive=True)


def fetched(caplog: pytest.LogCaptureFixture) -> set[str]:
    """The files that the server was asked for since the last time."""
    asked = [record.getMessage() for record in caplog.records if record.name == "werkzeug"]
    caplog.clear()
    return {line.split("100%25/")[1].split(" ")[0] for line in asked if '"GET ' in line and "list-type" not in line}


def refusal(address: str, digest: str | None = None, of: type[Exception] = ModelNotFoundError) -> str:
    with pytest.raises(of) as refused:
        resolve_model(address, digest)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_second_look_fetches_nothing_and_a_change_is_noticed(bucket: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "werkzeug"):
        first = resolve_model(ADDRESS)
        assert {str(path.relative_to(first.folder)) for path in first.folder.rglob("*.*")} == set(FILES)
        assert fetched(caplog) == set(FILES)
        assert resolve_model(ADDRESS) == first
        assert fetched(caplog) == set()
        # By another process, as far as the driver's memory of listings is concerned.
        s3fs.S3FileSystem(skip_instance_cache=True).pipe_file(f"{KEY}/model.safetensors", b"WEIGHTS")
        assert resolve_model(ADDRESS).digest != first.digest
        assert fetched(caplog) == set(FILES)


def test_who_knows_the_digest_finds_just_these_files_or_is_told_both_digests(bucket: Any, tmp_path: Path) -> None:
    first = resolve_model(ADDRESS)
    bucket.pipe_file(f"{KEY}/model.safetensors", b"WEIGHTS")
    assert resolve_model(ADDRESS, first.digest) == first
    shutil.rmtree(tmp_path / "cache")
    said = refusal(ADDRESS, first.digest, CheckpointError)
    found = resolve_model(ADDRESS).digest
    assert said.startswith(f"{ADDRESS} gave files with the digest {found[:12]}, expected {first.digest[:12]}: ")


def test_what_is_not_there_is_told(bucket: Any) -> None:
    for address in ("s3://lake/models/none", "s3://no-such-lake", "s3://no-such-lake/models"):
        assert refusal(address) == f"there is nothing at {address}; check the URI"
    file = f"{ADDRESS}/README.md"
    assert refusal(file) == f"{file} is the URI of a file; give that of its folder"


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_a_store_that_denies_is_asked_once(bucket: Any, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Denying(served_files.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            self.server.asked.append(self.path)
            body = f"<Error><Code>{code}</Code><Message>Not you</Message></Error>".encode()
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with served_files.serving(Denying) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", served_files.address_of(server))
        s3fs.S3FileSystem.clear_instance_cache()
        assert refusal(ADDRESS).startswith(f"{ADDRESS} can't be read (PermissionError: Not you); check that the store")
        assert len(server.asked) == 1
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_store_that_is_down_is_told(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    assert refusal(ADDRESS).startswith(f"{ADDRESS} can't be read (EndpointConnectionError: Could not connect to the")
    s3fs.S3FileSystem.clear_instance_cache()
