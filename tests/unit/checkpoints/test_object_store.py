"""Checkpoints in object stores: fetched once, verified, refused with the reason."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import local_server
import pytest
from local_server import serving, serving_folder, url_of

from gliclass_spark.checkpoints.cache import CACHE_VARIABLE
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import CheckpointError, ModelNotFoundError
from gliclass_spark.inference.engine import Engine

FILES = {
    "config.json": b"{}",
    "model.safetensors": b"weights",
    "tokenizer.json": b"tokens",
    "label_tokenizer/tokenizer.json": b"tokens of labels",
}
OTHERS = {"README.md": b"read me", "pytorch_model.bin": b"\x80\x04.", "trap.py": b"1/0", "onnx/model.safetensors": b"x"}
RESOLVE = (
    "import sys; from gliclass_spark.checkpoints.uri import resolve_model; print(resolve_model(*sys.argv[1:]).digest)"
)


class Store:
    """A folder in a store, and its URI."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.system, self.path = fsspec.core.url_to_fs(uri)

    def put(self, files: dict[str, bytes]) -> Store:
        for name, content in files.items():
            self.system.pipe_file(f"{self.path}/{name}", content)
        return self

    def remove(self, name: str) -> None:
        self.system.rm_file(f"{self.path}/{name}")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of cached checkpoints, empty for each test."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A checkpoint in a folder with other files."""
    folder = {"memory": "memory://lake", "file": (tmp_path / "lake").as_uri()}[request.param]
    store = Store(f"{folder}/models/mail v1 [é] 100%")
    if request.param == "file":
        Path(store.path, "label_tokenizer").mkdir(parents=True)
        Path(store.path, "onnx").mkdir()
    yield store.put({**FILES, **OTHERS})
    fsspec.filesystem("memory").store.clear()


def write_files(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def leftovers(cache: Path) -> list[str]:
    """Return the names in the cache other than checkpoints, locks and records."""
    paths = [*cache.glob("*"), *cache.glob("addresses/*")]
    return [path.name for path in paths if len(path.name) != 64 and path.suffix not in (".lock", ".json", "")]


def refusal(uri: str, digest: str | None = None, of: type[Exception] = ModelNotFoundError) -> str:
    with pytest.raises(of) as refused:
        resolve_model(uri, digest)
    assert "\n" not in str(refused.value)
    return str(refused.value)


class TestFetch:
    def test_only_files_of_a_checkpoint_are_fetched(self, store: Store, cache: Path, tmp_path: Path) -> None:
        ref = resolve_model(store.uri)
        assert (ref.uri, ref.folder, ref.pinned) == (store.uri, cache / ref.digest, None)
        assert names(ref.folder) == set(FILES)
        assert ref.digest == resolve_model(str(write_files(tmp_path / "local", FILES))).digest
        assert leftovers(cache) == []

    def test_a_slash_at_the_end_changes_nothing(self, store: Store) -> None:
        assert resolve_model(f"{store.uri}/").digest == resolve_model(store.uri).digest

    def test_a_model_from_a_store_has_the_scores_of_its_folder(self, tiny_model: str) -> None:
        store = Store("memory://tiny").put({path.name: path.read_bytes() for path in Path(tiny_model).iterdir()})
        engines = [Engine.from_pretrained(uri, device="cpu", precision="float32") for uri in (tiny_model, store.uri)]
        assert engines[0].scores(["a lake"], ["spam"]).tolist() == engines[1].scores(["a lake"], ["spam"]).tolist()

    @pytest.mark.parametrize("name", sorted(FILES))
    def test_a_change_of_any_file_is_detected(self, store: Store, name: str, cache: Path) -> None:
        before = resolve_model(store.uri)
        store.put({name: FILES[name].upper().replace(b"{}", b"[]")})  # of the same size
        after = resolve_model(store.uri)
        assert after.digest != before.digest
        assert {path.name for path in cache.iterdir() if len(path.name) == 64} == {before.digest, after.digest}

    def test_removed_and_added_files_are_detected(self, store: Store) -> None:
        digests = [resolve_model(store.uri).digest]
        store.remove("label_tokenizer/tokenizer.json")
        digests.append(resolve_model(store.uri).digest)
        store.put({"vocab.txt": b"words"})
        digests.append(resolve_model(store.uri).digest)
        assert len(set(digests)) == 3

    def test_a_damaged_copy_is_fetched_again(self, store: Store, caplog: pytest.LogCaptureFixture) -> None:
        ref = resolve_model(store.uri)
        (ref.folder / "model.safetensors").write_bytes(b"WEIGHTS")
        assert resolve_model(store.uri) == ref
        assert (ref.folder / "model.safetensors").read_bytes() == b"weights"
        assert f"{ref.folder} was damaged; it was fetched again" in caplog.text

    @pytest.mark.parametrize("record", [b"", b"{", b"[]", b'{"unknown": 1}', b"\xff"])
    def test_a_damaged_record_is_ignored(self, store: Store, cache: Path, record: bytes) -> None:
        ref = resolve_model(store.uri)
        for path in cache.glob("addresses/*.json"):
            path.write_bytes(record)
        assert resolve_model(store.uri) == ref


class TestWorker:
    """With a digest, the cache is used without a request."""

    def test_cached_files_are_not_requested(self, store: Store) -> None:
        ref = resolve_model(store.uri)
        store.remove("model.safetensors")
        assert resolve_model(store.uri, ref.digest) == ref
        assert resolve_model("s3://no-such-bucket/and-no-driver", ref.digest).folder == ref.folder

    def test_files_that_are_not_cached_are_fetched(self, store: Store, cache: Path) -> None:
        ref = resolve_model(store.uri)
        shutil.rmtree(cache)
        assert resolve_model(store.uri, ref.digest) == ref
        assert names(ref.folder) == set(FILES)

    def test_other_files_are_refused_with_both_digests_and_not_cached(self, store: Store, cache: Path) -> None:
        first = resolve_model(store.uri).digest
        store.put({"model.safetensors": b"others"})
        other = resolve_model(store.uri).digest
        shutil.rmtree(cache)
        assert refusal(store.uri, first, CheckpointError) == (
            f"{store.uri} gave files with the digest {other[:12]}, expected {first[:12]}: they are damaged, or "
            "were changed meanwhile; put the files back, or start again with the present ones"
        )
        assert [path.name for path in cache.iterdir()] == [f"{first}.lock"]

    def test_an_invalid_digest_never_becomes_a_path(self, store: Store) -> None:
        assert "is no digest" in refusal(store.uri, "../../x", CheckpointError)


class TestHttp:
    """A local server, and the requests that it gets."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return write_files(tmp_path / "www" / "mail", {**FILES, **OTHERS})

    def test_a_second_resolution_requests_etags_and_fetches_nothing(self, folder: Path) -> None:
        with serving_folder(folder.parent) as server:
            first = resolve_model(f"{url_of(server)}/mail")
            fetched = [
                request
                for request in server.requests
                if request.endswith((".json", ".safetensors")) and "GET" in request
            ]
            assert sorted(fetched) == sorted(f"GET /mail/{name}" for name in FILES)
            server.requests.clear()
            assert resolve_model(f"{url_of(server)}/mail") == first
            assert {request for request in server.requests if request.startswith("GET")} <= {
                *("GET /mail", "GET /mail/"),
                *("GET /mail/label_tokenizer", "GET /mail/label_tokenizer/"),
            }
            server.requests.clear()
            assert resolve_model(f"{url_of(server)}/mail", first.digest) == first
            assert server.requests == []
            os.utime(folder / "model.safetensors", (1, 1))
            assert resolve_model(f"{url_of(server)}/mail") == first
            assert "GET /mail/model.safetensors" in server.requests

    def test_nothing_is_fetched_for_the_url_of_a_file(self, folder: Path) -> None:
        with serving_folder(folder.parent) as server:
            uri = f"{url_of(server)}/mail/model.safetensors"
            assert refusal(uri) == f"{uri} is the URI of a file; give that of its folder"

    def test_a_server_that_is_down_is_reported_at_once_in_one_line(self) -> None:
        message = refusal("http://127.0.0.1:9/mail")
        assert message.startswith("http://127.0.0.1:9/mail can't be read (ClientConnectorError: ")
        assert message.endswith("check that the store is up, and the credentials in the environment")

    @pytest.mark.parametrize("status", [401, 403, 500, 503])
    def test_a_server_that_denies_or_fails_gets_one_request(self, status: int) -> None:
        class Denying(local_server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802
                self.server.requests.append(self.path)
                self.send_error(status)

            def log_message(self, *_: object) -> None: ...

        with serving(Denying) as server:
            uri = f"{url_of(server)}/mail"
            assert refusal(uri).startswith(f"{uri} can't be read (ClientResponseError: {status}, ")
            assert server.requests == ["/mail"]

    def test_a_folder_that_changes_while_it_is_fetched_is_refused(self, folder: Path, cache: Path) -> None:
        class Uploading(local_server.FolderHandler):
            def do_GET(self) -> None:  # noqa: N802
                super().do_GET()
                if self.path.endswith("/model.safetensors"):
                    os.utime(folder / "tokenizer.json", (1, 1))

        with serving(lambda *args: Uploading(*args, directory=str(folder.parent))) as server:
            uri = f"{url_of(server)}/mail"
            message = refusal(uri, of=CheckpointError)
            assert message == f"{uri} was changed while it was fetched; try again when it is complete"
        assert leftovers(cache) == []


class TestRefused:
    @pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
    def test_pickled_weights_are_refused_and_not_fetched(self, store: Store, name: str, cache: Path) -> None:
        for removed in ("model.safetensors", "pytorch_model.bin"):
            store.remove(removed)
        store.put({name: b"\x80\x04."})
        message = refusal(store.uri, of=CheckpointError)
        assert message.startswith(f"{store.uri} holds {name} but no model.safetensors: pickled weights can run code")
        assert not cache.exists()

    def test_custom_code_in_the_configuration_is_refused_and_nothing_cached(self, store: Store, cache: Path) -> None:
        store.put({"config.json": b'{"encoder_config": {"auto_map": {"AutoModel": "trap.Trap"}}}'})
        assert refusal(store.uri, of=CheckpointError) == (
            f"config.json of {store.uri} needs code of its own (encoder_config.auto_map), but code from a "
            "checkpoint is never run; use a checkpoint whose encoder is part of transformers"
        )
        assert [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"] == []

    def test_a_file_an_empty_folder_and_a_missing_folder_have_errors_of_their_own(self, tmp_path: Path) -> None:
        root = write_files(tmp_path / "lake", {"mail/weights.bin": b"x"})
        (root / "empty").mkdir()
        file, empty, nothing = (f"file://{root}/{name}" for name in ("mail/weights.bin", "empty", "nothing"))
        assert refusal(file) == f"{file} is the URI of a file; give that of its folder"
        assert refusal(empty, of=CheckpointError).startswith(f"{empty} holds no model.safetensors; give the folder of")
        assert refusal(nothing) == f"there is nothing at {nothing}; check the URI"

    @pytest.mark.parametrize(
        ("uri", "fix"),
        [
            ("gs://bucket/mail", "its driver is not installed; pip install gcsfs"),
            ("abfss://container@account.dfs.core.windows.net/mail", "its driver is not installed; pip install adlfs"),
            ("oci://bucket/mail", "its driver is not installed; pip install ocifs"),
            (
                "sftp://host/mail",
                'its driver lacks a package (SFTPFileSystem requires "paramiko" to be installed); ins',
            ),
            ("lake://mail", "fsspec has no driver for lake://; install one, or copy the folder to another store"),
        ],
    )
    def test_a_missing_driver_is_named(self, uri: str, fix: str) -> None:
        assert refusal(uri).startswith(f"{uri} can't be read: {fix}")


class TestConcurrency:
    def test_of_two_processes_one_fetches(self, tmp_path: Path, cache: Path) -> None:
        folder = write_files(tmp_path / "www" / "mail", FILES)

        class Slow(local_server.FolderHandler):
            def do_GET(self) -> None:  # noqa: N802
                if self.path.endswith(".safetensors"):
                    time.sleep(2)
                super().do_GET()

        with serving(lambda *args: Slow(*args, directory=str(folder.parent))) as server:
            command = [sys.executable, "-c", RESOLVE, f"{url_of(server)}/mail"]
            processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
            assert [process.communicate()[0].strip() for process in processes] == [
                resolve_model(str(folder)).digest
            ] * 2
            assert server.requests.count("GET /mail/model.safetensors") == 1
        assert leftovers(cache) == []

    def test_one_that_was_killed_fetching_leaves_nothing_that_the_next_stumbles_over(
        self, tmp_path: Path, cache: Path
    ) -> None:
        folder = write_files(tmp_path / "www" / "mail", FILES)

        fetching, proceed = threading.Event(), threading.Event()

        class Stuck(local_server.FolderHandler):
            def do_GET(self) -> None:  # noqa: N802
                if self.path.endswith(".safetensors"):
                    fetching.set()
                    proceed.wait()
                super().do_GET()

        with serving(lambda *args: Stuck(*args, directory=str(folder.parent))) as server:
            uri = f"{url_of(server)}/mail"
            killed = subprocess.Popen([sys.executable, "-c", RESOLVE, uri])
            assert fetching.wait(timeout=60)
            killed.send_signal(signal.SIGKILL)
            killed.wait()
            proceed.set()
            assert leftovers(cache) != []
            assert names(resolve_model(uri).folder) == set(FILES)
        assert leftovers(cache) == []

    def test_a_full_disk_is_reported_and_leaves_no_files(self, tmp_path: Path, cache: Path) -> None:
        """Simulated by a limit of 4 kB per file."""
        folder = write_files(tmp_path / "lake", {**FILES, "model.safetensors": b"x" * 10_000})
        limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n" + RESOLVE
        run = subprocess.run([sys.executable, "-c", limited, f"file://{folder}"], capture_output=True, text=True)
        assert run.stderr.splitlines()[-1].endswith(
            f"ModelNotFoundError: the files of file://{folder} can't be kept in {cache} (File too large); fix that, "
            "or set GLICLASS_SPARK_CACHE to another folder"
        )
        assert leftovers(cache) == []

    def test_a_read_only_cache_works_if_it_is_filled(self, store: Store, cache: Path) -> None:
        ref = resolve_model(store.uri)
        for path in [cache, *cache.rglob("*")]:
            path.chmod(path.stat().st_mode & ~0o222)
        try:
            assert resolve_model(store.uri) == resolve_model(store.uri, ref.digest) == ref
        finally:
            for path in [cache, *cache.rglob("*")]:
                path.chmod(path.stat().st_mode | 0o200)


def test_only_an_url_of_a_store_loads_fsspec_and_only_one_of_the_hub_its_library(tmp_path: Path) -> None:
    program = f"{RESOLVE}; print(*{{'torch', 'fsspec', 'huggingface_hub', 'mlflow'}} & set(sys.modules))"
    loaded: Callable[[str], str] = lambda uri: subprocess.check_output(  # noqa: E731
        [sys.executable, "-c", program, uri], text=True
    ).splitlines()[1]
    assert loaded("embedded") == loaded(str(write_files(tmp_path / "local", FILES))) == ""
    assert loaded(f"file://{tmp_path}/local") == "fsspec"
