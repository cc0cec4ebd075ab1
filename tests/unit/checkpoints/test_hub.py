"""Checkpoints on the hub: a local server with the hub's API, through the hub's client."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants
from local_server import BaseHTTPRequestHandler, serving, url_of

from gliclass_spark.checkpoints.cache import CACHE_VARIABLE
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import CheckpointError, ModelNotFoundError

NAME = "org/mail"
OLD, NEW = "a" * 40, "b" * 40
FILES = {"config.json": b"{}", "model.safetensors": b"weights", "label_tokenizer/tokenizer.json": b"tokens"}
OTHERS = {"README.md": b"read me", "pytorch_model.bin": b"\x80\x04.", "trap.py": b"1/0", "onnx/model.safetensors": b"x"}


class Hub:
    """A hub with one repository: the files of its commits, and the commits of its branches and tags."""

    def __init__(self) -> None:
        self.commits = {OLD: {**FILES, **OTHERS}, NEW: {**FILES, **OTHERS, "model.safetensors": b"new weights"}}
        self.refs = {"main": OLD, "v1": OLD, "feature/x": NEW}
        self.status = 200
        self.requests: list[str] = []

    def respond(self, path: str) -> tuple[int, dict[str, str], bytes]:
        self.requests.append(path)
        if self.status != 200:
            return self.status, {}, b""
        if match := re.fullmatch(rf"/api/models/{NAME}(?:/revision/(.+))?", path):
            commit = self.commit(unquote(match[1] or "main"))
            info = {"id": NAME, "sha": commit, "private": False, "tags": [], "siblings": []}
            return self.json(info) if commit else (404, {"X-Error-Code": "RevisionNotFound"}, b"")
        if match := re.fullmatch(rf"/api/models/{NAME}/tree/(\w+)", path):
            files = self.commits[match[1]].items()
            return self.json([{"type": "file", "path": name, "size": len(c), "oid": oid(c)} for name, c in files])
        if match := re.fullmatch(rf"/{NAME}/resolve/(\w+)/(.+)", path):
            content = self.commits[match[1]][unquote(match[2])]
            return 200, {"ETag": f'"{oid(content)}"', "X-Repo-Commit": match[1]}, content
        return 404, {"X-Error-Code": "RepoNotFound"}, b""

    def commit(self, revision: str) -> str | None:
        return revision if revision in self.commits else self.refs.get(revision)

    def json(self, document: object) -> tuple[int, dict[str, str], bytes]:
        return 200, {"Content-Type": "application/json"}, json.dumps(document).encode()

    def fetched(self) -> set[str]:
        """Return the files requested since the last call."""
        names = {path.split("/", 5)[5] for path in self.requests if "/resolve/" in path}
        self.requests.clear()
        return names


def oid(content: bytes) -> str:
    return hashlib.sha1(content, usedforsecurity=False).hexdigest()


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            if hub.status == 0:
                return  # closes the connection
            status, headers, body = hub.respond(urlsplit(self.path).path)
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    with serving(Handler) as server:
        point_at(url_of(server), tmp_path, monkeypatch)
        yield hub


def point_at(endpoint: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the endpoint and the cache; the client reads HF_ENDPOINT and HF_HOME only when it is imported."""
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setenv("HF_HOME", str(folder / "hf"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hf" / "hub"))


def another_machine(folder: Path) -> None:
    for name in ("cache", "hf"):
        shutil.rmtree(folder / name)


def refusal(uri: str, digest: str | None = None, of: type[Exception] = ModelNotFoundError) -> str:
    with pytest.raises(of) as refused:
        resolve_model(uri, digest)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the messages of this package, without those of the hub's client."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("gliclass_spark")]


class TestRevision:
    def test_a_name_resolves_to_its_present_commit_which_is_logged(
        self, hub: Hub, caplog: pytest.LogCaptureFixture, tmp_path: Path
    ) -> None:
        first = resolve_model(NAME)
        assert (first.uri, first.pinned) == (NAME, f"{NAME}@{OLD}")
        assert messages(caplog) == [f"{NAME} is at the commit {OLD} now; write {NAME}@{OLD} to stay with it"]
        assert {str(path.relative_to(first.folder)) for path in first.folder.rglob("*.*")} == set(FILES)
        assert first.digest == digest_of_files(tmp_path, FILES)
        hub.refs["main"] = NEW
        second = resolve_model(NAME)
        assert second.pinned == f"{NAME}@{NEW}"
        assert second.digest != first.digest
        assert messages(caplog)[1:] == [f"{NAME} is at the commit {NEW} now; write {NAME}@{NEW} to stay with it"]

    @pytest.mark.parametrize(
        ("revision", "commit"), [("main", OLD), ("v1", OLD), ("feature/x", NEW), (OLD, OLD), (NEW, NEW)]
    )
    def test_a_revision_is_a_branch_a_tag_or_a_commit(self, hub: Hub, revision: str, commit: str) -> None:
        ref = resolve_model(f"{NAME}@{revision}")
        assert (ref.uri, ref.pinned) == (f"{NAME}@{revision}", f"{NAME}@{commit}")
        assert (ref.folder / "model.safetensors").read_bytes() == hub.commits[commit]["model.safetensors"]

    def test_only_files_of_a_checkpoint_are_fetched_and_only_once(self, hub: Hub) -> None:
        first = resolve_model(NAME)
        assert hub.fetched() == set(FILES)
        assert resolve_model(NAME) == first
        assert hub.requests == [f"/api/models/{NAME}"]

    def test_a_cached_commit_needs_no_request(self, hub: Hub, caplog: pytest.LogCaptureFixture) -> None:
        first = resolve_model(f"{NAME}@{OLD}")
        hub.requests.clear()
        assert resolve_model(f"{NAME}@{OLD}") == first
        assert hub.requests == []
        assert messages(caplog) == []


class TestWorker:
    def test_cached_files_are_not_requested(self, hub: Hub) -> None:
        first = resolve_model(NAME)
        hub.requests.clear()
        assert resolve_model(str(first.pinned), first.digest).folder == first.folder
        assert resolve_model(NAME, first.digest).folder == first.folder
        assert hub.requests == []

    def test_the_pinned_uri_resolves_after_its_branch_has_moved(self, hub: Hub, tmp_path: Path) -> None:
        first = resolve_model(NAME)
        hub.refs["main"] = NEW
        another_machine(tmp_path)
        ref = resolve_model(str(first.pinned), first.digest)
        assert (ref.digest, (ref.folder / "model.safetensors").read_bytes()) == (first.digest, b"weights")

    def test_without_the_commit_other_files_are_refused_with_both_digests(self, hub: Hub, tmp_path: Path) -> None:
        first = resolve_model(NAME).digest
        hub.refs["main"] = NEW
        another_machine(tmp_path)
        message = refusal(NAME, first, CheckpointError)
        other = resolve_model(NAME).digest
        assert f"the hub's {NAME} gave files with the digest {other[:12]}, expected {first[:12]}: they are" in message

    def test_a_damaged_copy_is_fetched_again_from_the_hub(self, hub: Hub) -> None:
        ref = resolve_model(NAME)
        (ref.folder / "model.safetensors").unlink()
        assert resolve_model(str(ref.pinned), ref.digest).folder == ref.folder
        assert (ref.folder / "model.safetensors").read_bytes() == b"weights"

    def test_of_two_processes_one_fetches_from_the_hub(self, hub: Hub) -> None:
        program = f"from gliclass_spark.checkpoints.uri import resolve_model; print(resolve_model({NAME!r}).digest)"
        processes = [
            subprocess.Popen([sys.executable, "-c", program], stdout=-1, stderr=-1, text=True) for _ in range(2)
        ]
        assert {process.communicate()[0].strip() for process in processes} == {resolve_model(NAME).digest}
        assert (
            len([path for path in hub.requests if path.endswith(f"resolve/{OLD}/model.safetensors")]) <= 2
        )  # HEAD, GET


class TestOutage:
    @pytest.fixture(params=[0, 503, 429, "offline"])
    def out(self, request: pytest.FixtureRequest, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
        """Take the hub down."""

        def take_down() -> None:
            if request.param == "offline":
                monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
            else:
                hub.status = request.param

        return take_down

    def test_a_uri_stays_at_its_last_commit_with_a_warning(
        self, hub: Hub, out: Callable[[], None], caplog: pytest.LogCaptureFixture
    ) -> None:
        first = resolve_model(NAME)
        hub.refs["main"] = NEW
        out()
        caplog.clear()
        assert resolve_model(NAME) == first
        [message] = messages(caplog)
        assert re.fullmatch(rf"the hub is unreachable \(\w+\); {NAME} stays at the commit {OLD}", message)

    def test_the_cache_of_the_hubs_client_is_used(self, hub: Hub, out: Callable[[], None], tmp_path: Path) -> None:
        first = resolve_model(f"{NAME}@main")
        shutil.rmtree(tmp_path / "cache")
        (tmp_path / "hf" / "hub" / "models--org--mail" / "refs").mkdir(exist_ok=True)
        (tmp_path / "hf" / "hub" / "models--org--mail" / "refs" / "main").write_text(OLD)
        out()
        assert resolve_model(f"{NAME}@main") == first

    def test_a_model_that_is_nowhere_is_reported(self, hub: Hub, out: Callable[[], None]) -> None:
        out()
        message = refusal(NAME)
        assert message.startswith(f"model {NAME!r} is not a folder, and not available on the hub (")
        assert 'use "embedded"' in message


class TestRefused:
    def test_a_missing_revision_or_repository_is_no_outage(self, hub: Hub) -> None:
        resolve_model(NAME)
        assert "not available on the hub (RevisionNotFoundError, status 404)" in refusal(f"{NAME}@v2")
        assert "not available on the hub (RepositoryNotFoundError, status 404)" in refusal("org/other")

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_hub_that_denies_is_no_outage(self, hub: Hub, status: int) -> None:
        resolve_model(NAME)
        hub.status = status
        message = refusal(NAME)
        assert f"status {status}); check the model URI, log in (HF_TOKEN) if it is private" in message

    def test_pickled_weights_are_refused_and_not_fetched(self, hub: Hub, tmp_path: Path) -> None:
        del hub.commits[OLD]["model.safetensors"]
        message = refusal(NAME, of=CheckpointError)
        assert message.startswith(
            f"{NAME} holds pytorch_model.bin but no model.safetensors: pickled weights can run code"
        )
        assert "pytorch_model.bin" not in hub.fetched()

    def test_custom_code_in_the_configuration_is_refused(self, hub: Hub) -> None:
        hub.commits[OLD]["config.json"] = b'{"auto_map": {"AutoModel": "trap.Trap"}}'
        message = refusal(NAME, of=CheckpointError)
        assert message.startswith(f"config.json of {NAME} needs code of its own (auto_map), but code from a checkpoint")


def digest_of_files(folder: Path, files: dict[str, bytes]) -> str:
    for name, content in files.items():
        (folder / "local" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "local" / name).write_bytes(content)
    return resolve_model(str(folder / "local")).digest
