"""Checkpoints in S3: a local server, through s3fs."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import local_server
import pytest
import s3fs
from moto.server import ThreadedMotoServer

from gliclass_spark.checkpoints.cache import CACHE_VARIABLE
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import CheckpointError, ModelNotFoundError

FILES = {"config.json": b"{}", "model.safetensors": b"weights", "label_tokenizer/tokenizer.json": b"tokens"}
URI = "s3://lake/models/mail v1 [é] 100%"
KEY = URI.removeprefix("s3://")


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=True)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The bucket "lake" with a checkpoint and other files."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
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
    """Return the files requested since the last call."""
    requests = [record.getMessage() for record in caplog.records if record.name == "werkzeug"]
    caplog.clear()
    return {line.split("100%25/")[1].split(" ")[0] for line in requests if '"GET ' in line and "list-type" not in line}


def refusal(uri: str, digest: str | None = None, of: type[Exception] = ModelNotFoundError) -> str:
    with pytest.raises(of) as refused:
        resolve_model(uri, digest)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_second_resolution_fetches_nothing_and_a_change_is_detected(
    bucket: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "werkzeug"):
        first = resolve_model(URI)
        assert {str(path.relative_to(first.folder)) for path in first.folder.rglob("*.*")} == set(FILES)
        assert fetched(caplog) == set(FILES)
        assert resolve_model(URI) == first
        assert fetched(caplog) == set()
        # By another instance, since the driver caches listings.
        s3fs.S3FileSystem(skip_instance_cache=True).pipe_file(f"{KEY}/model.safetensors", b"WEIGHTS")
        assert resolve_model(URI).digest != first.digest
        assert fetched(caplog) == set(FILES)


def test_a_digest_resolves_to_its_files_or_an_error_with_both_digests(bucket: Any, tmp_path: Path) -> None:
    first = resolve_model(URI)
    bucket.pipe_file(f"{KEY}/model.safetensors", b"WEIGHTS")
    assert resolve_model(URI, first.digest) == first
    shutil.rmtree(tmp_path / "cache")
    message = refusal(URI, first.digest, CheckpointError)
    other = resolve_model(URI).digest
    assert message.startswith(f"{URI} gave files with the digest {other[:12]}, expected {first.digest[:12]}: ")


def test_a_missing_folder_and_a_file_are_reported(bucket: Any) -> None:
    for uri in ("s3://lake/models/none", "s3://no-such-lake", "s3://no-such-lake/models"):
        assert refusal(uri) == f"there is nothing at {uri}; check the URI"
    file = f"{URI}/README.md"
    assert refusal(file) == f"{file} is the URI of a file; give that of its folder"


@pytest.mark.parametrize("code", ["AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"])
def test_a_store_that_denies_gets_one_request(bucket: Any, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Denying(local_server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            self.server.requests.append(self.path)
            body = f"<Error><Code>{code}</Code><Message>Not you</Message></Error>".encode()
            self.send_response(403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    with local_server.serving(Denying) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL", local_server.url_of(server))
        s3fs.S3FileSystem.clear_instance_cache()
        assert refusal(URI).startswith(f"{URI} can't be read (PermissionError: Not you); check that the store")
        assert len(server.requests) == 1
    s3fs.S3FileSystem.clear_instance_cache()


def test_a_store_that_is_down_is_reported(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    assert refusal(URI).startswith(f"{URI} can't be read (EndpointConnectionError: Could not connect to the")
    s3fs.S3FileSystem.clear_instance_cache()
