"""A checkpoint in a store that fsspec has a driver for: fetched once, checked, refused with its reason."""

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
import pytest
import served_files
from served_files import address_of, serving, serving_folder

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
    """A folder in some store, and its address."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.system, self.path = fsspec.core.url_to_fs(address)

    def put(self, files: dict[str, bytes]) -> Store:
        for name, content in files.items():
            self.system.pipe_file(f"{self.path}/{name}", content)
        return self

    def remove(self, name: str) -> None:
        self.system.rm_file(f"{self.path}/{name}")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the checkpoints that this test has fetched."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache" / "models"


@pytest.fixture(params=["memory", "file"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A checkpoint among files that are none of its own."""
    folder = {"memory": "memory://lake", "file": (tmp_path / "lake").as_uri()}[request.param]
    made = Store(f"{folder}/models/mail v1 [é] 100%")
    if request.param == "file":
        Path(made.path, "label_tokenizer").mkdir(parents=True)
        Path(made.path, "onnx").mkdir()
    yield made.put({**FILES, **OTHERS})
    fsspec.filesystem("memory").store.clear()


def written(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def names(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def leftovers(cache: Path) -> list[str]:
    """What stands in the cache beside checkpoints, locks and what is remembered."""
    found = [*cache.glob("*"), *cache.glob("addresses/*")]
    return [path.name for path in found if len(path.name) != 64 and path.suffix not in (".lock", ".json", "")]


def refusal(address: str, digest: str | None = None, of: type[Exception] = ModelNotFoundError) -> str:
    with pytest.raises(of) as refused:
        resolve_model(address, digest)
    assert "\n" not in str(refused.value)
    return str(refused.value)


class TestFetch:
    def test_only_what_a_checkpoint_consists_of_is_fetched(self, store: Store, cache: Path, tmp_path: Path) -> None:
        ref = resolve_model(store.address)
        assert (ref.uri, ref.folder, ref.pinned) == (store.address, cache / ref.digest, None)
        assert names(ref.folder) == set(FILES)
        assert ref.digest == resolve_model(str(written(tmp_path / "local", FILES))).digest
        assert leftovers(cache) == []

    def test_a_slash_at_the_end_changes_nothing(self, store: Store) -> None:
        assert resolve_model(f"{store.address}/").digest == resolve_model(store.address).digest

    def test_a_model_from_a_store_scores_as_it_does_from_its_folder(self, tiny_model: str) -> None:
        store = Store("memory://tiny").put({path.name: path.read_bytes() for path in Path(tiny_model).iterdir()})
        both = [Engine.from_pretrained(each, device="cpu", precision="float32") for each in (tiny_model, store.address)]
        assert both[0].scores(["a lake"], ["spam"]).tolist() == both[1].scores(["a lake"], ["spam"]).tolist()

    @pytest.mark.parametrize("name", sorted(FILES))
    def test_a_change_of_any_file_is_noticed(self, store: Store, name: str, cache: Path) -> None:
        before = resolve_model(store.address)
        store.put({name: FILES[name].upper().replace(b"{}", b"[]")})  # of the same size
        after = resolve_model(store.address)
        assert after.digest != before.digest
        assert {path.name for path in cache.iterdir() if len(path.name) == 64} == {before.digest, after.digest}

    def test_a_file_that_is_gone_and_one_that_is_new_are_noticed(self, store: Store) -> None:
        digests = [resolve_model(store.address).digest]
        store.remove("label_tokenizer/tokenizer.json")
        digests.append(resolve_model(store.address).digest)
        store.put({"vocab.txt": b"words"})
        digests.append(resolve_model(store.address).digest)
        assert len(set(digests)) == 3

    def test_a_damaged_copy_is_fetched_again(self, store: Store, caplog: pytest.LogCaptureFixture) -> None:
        ref = resolve_model(store.address)
        (ref.folder / "model.safetensors").write_bytes(b"WEIGHTS")
        assert resolve_model(store.address) == ref
        assert (ref.folder / "model.safetensors").read_bytes() == b"weights"
        assert f"{ref.folder} was damaged; it was fetched again" in caplog.text

    @pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"unknown": 1}', b"\xff"])
    def test_what_is_remembered_of_an_address_may_be_lost(self, store: Store, cache: Path, note: bytes) -> None:
        ref = resolve_model(store.address)
        for path in cache.glob("addresses/*.json"):
            path.write_bytes(note)
        assert resolve_model(store.address) == ref


class TestWorker:
    """Who knows the digest needs no one to tell him what it stands for."""

    def test_files_that_are_in_the_cache_are_not_asked_for(self, store: Store) -> None:
        ref = resolve_model(store.address)
        store.remove("model.safetensors")
        assert resolve_model(store.address, ref.digest) == ref
        assert resolve_model("s3://no-such-bucket/and-no-driver", ref.digest).folder == ref.folder

    def test_files_that_are_not_are_fetched(self, store: Store, cache: Path) -> None:
        ref = resolve_model(store.address)
        shutil.rmtree(cache)
        assert resolve_model(store.address, ref.digest) == ref
        assert names(ref.folder) == set(FILES)

    def test_other_files_are_refused_with_both_digests_and_not_kept(self, store: Store, cache: Path) -> None:
        first = resolve_model(store.address).digest
        store.put({"model.safetensors": b"others"})
        other = resolve_model(store.address).digest
        shutil.rmtree(cache)
        assert refusal(store.address, first, CheckpointError) == (
            f"{store.address} gave files with the digest {other[:12]}, expected {first[:12]}: they are damaged, or "
            "were changed meanwhile; put the files back, or start again with the present ones"
        )
        assert [path.name for path in cache.iterdir()] == [f"{first}.lock"]

    def test_what_is_no_digest_never_becomes_a_path(self, store: Store) -> None:
        assert "is no digest" in refusal(store.address, "../../x", CheckpointError)


class TestHttp:
    """A real server, and what it was asked."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return written(tmp_path / "www" / "mail", {**FILES, **OTHERS})

    def test_a_second_look_asks_for_marks_and_fetches_nothing(self, folder: Path) -> None:
        with serving_folder(folder.parent) as server:
            first = resolve_model(f"{address_of(server)}/mail")
            fetched = [each for each in server.asked if each.endswith((".json", ".safetensors")) and "GET" in each]
            assert sorted(fetched) == sorted(f"GET /mail/{name}" for name in FILES)
            server.asked.clear()
            assert resolve_model(f"{address_of(server)}/mail") == first
            assert {each for each in server.asked if each.startswith("GET")} <= {
                *("GET /mail", "GET /mail/"),
                *("GET /mail/label_tokenizer", "GET /mail/label_tokenizer/"),
            }
            server.asked.clear()
            assert resolve_model(f"{address_of(server)}/mail", first.digest) == first
            assert server.asked == []
            os.utime(folder / "model.safetensors", (1, 1))
            assert resolve_model(f"{address_of(server)}/mail") == first
            assert "GET /mail/model.safetensors" in server.asked

    def test_nothing_is_fetched_for_the_address_of_a_file(self, folder: Path) -> None:
        with serving_folder(folder.parent) as server:
            address = f"{address_of(server)}/mail/model.safetensors"
            assert refusal(address) == f"{address} is the URI of a file; give that of its folder"

    def test_a_server_that_is_down_is_told_at_once_in_one_line(self) -> None:
        said = refusal("http://127.0.0.1:9/mail")
        assert said.startswith("http://127.0.0.1:9/mail can't be read (ClientConnectorError: ")
        assert said.endswith("check that the store is up, and the credentials in the environment")

    @pytest.mark.parametrize("status", [401, 403, 500, 503])
    def test_a_server_that_denies_or_fails_is_asked_once(self, status: int) -> None:
        class Denying(served_files.BaseHTTPRequestHandler):
            def do_GET(self) -> None:  # noqa: N802
                self.server.asked.append(self.path)
                self.send_error(status)

            def log_message(self, *_: object) -> None: ...

        with serving(Denying) as server:
            address = f"{address_of(server)}/mail"
            assert refusal(address).startswith(f"{address} can't be read (ClientResponseError: {status}, ")
            assert server.asked == ["/mail"]

    def test_a_folder_that_changes_while_it_is_fetched_is_refused(self, folder: Path, cache: Path) -> None:
        class Uploading(served_files.Folder):
            def do_GET(self) -> None:  # noqa: N802
                super().do_GET()
                if self.path.endswith("/model.safetensors"):
                    os.utime(folder / "tokenizer.json", (1, 1))

        with serving(lambda *args: Uploading(*args, directory=str(folder.parent))) as server:
            address = f"{address_of(server)}/mail"
            said = refusal(address, of=CheckpointError)
            assert said == f"{address} was changed while it was fetched; try again when it is complete"
        assert leftovers(cache) == []


class TestRefused:
    @pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
    def test_pickled_weights_are_refused_and_not_fetched(self, store: Store, name: str, cache: Path) -> None:
        for each in ("model.safetensors", "pytorch_model.bin"):
            store.remove(each)
        store.put({name: b"\x80\x04."})
        said = refusal(store.address, of=CheckpointError)
        assert said.startswith(f"{store.address} holds {name} but no model.safetensors: pickled weights can run code")
        assert not cache.exists()

    def test_code_that_the_configuration_asks_for_is_refused_and_nothing_kept(self, store: Store, cache: Path) -> None:
        store.put({"config.json": b'{"encoder_config": {"auto_map": {"AutoModel": "trap.Trap"}}}'})
        assert refusal(store.address, of=CheckpointError) == (
            f"config.json of {store.address} needs code of its own (encoder_config.auto_map), but code from a "
            "checkpoint is never run; use a checkpoint whose encoder is part of transformers"
        )
        assert [path for path in cache.rglob("*") if path.is_file() and path.suffix != ".lock"] == []

    def test_a_file_an_empty_folder_and_nothing_are_told_apart(self, tmp_path: Path) -> None:
        root = written(tmp_path / "lake", {"mail/weights.bin": b"x"})
        (root / "empty").mkdir()
        file, empty, nothing = (f"file://{root}/{name}" for name in ("mail/weights.bin", "empty", "nothing"))
        assert refusal(file) == f"{file} is the URI of a file; give that of its folder"
        assert refusal(empty, of=CheckpointError).startswith(f"{empty} holds no model.safetensors; give the folder of")
        assert refusal(nothing) == f"there is nothing at {nothing}; check the URI"

    @pytest.mark.parametrize(
        ("address", "mend"),
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
    def test_a_driver_that_is_missing_is_named(self, address: str, mend: str) -> None:
        assert refusal(address).startswith(f"{address} can't be read: {mend}")


class TestProcesses:
    def test_of_two_that_fetch_at_once_one_fetches(self, tmp_path: Path, cache: Path) -> None:
        folder = written(tmp_path / "www" / "mail", FILES)

        class Slow(served_files.Folder):
            def do_GET(self) -> None:  # noqa: N802
                if self.path.endswith(".safetensors"):
                    time.sleep(2)
                super().do_GET()

        with serving(lambda *args: Slow(*args, directory=str(folder.parent))) as server:
            command = [sys.executable, "-c", RESOLVE, f"{address_of(server)}/mail"]
            both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
            assert [each.communicate()[0].strip() for each in both] == [resolve_model(str(folder)).digest] * 2
            assert server.asked.count("GET /mail/model.safetensors") == 1
        assert leftovers(cache) == []

    def test_one_that_was_killed_in_the_middle_leaves_nothing_that_the_next_stumbles_over(
        self, tmp_path: Path, cache: Path
    ) -> None:
        folder = written(tmp_path / "www" / "mail", FILES)

        in_the_middle, go_on = threading.Event(), threading.Event()

        class Stuck(served_files.Folder):
            def do_GET(self) -> None:  # noqa: N802
                if self.path.endswith(".safetensors"):
                    in_the_middle.set()
                    go_on.wait()
                super().do_GET()

        with serving(lambda *args: Stuck(*args, directory=str(folder.parent))) as server:
            address = f"{address_of(server)}/mail"
            killed = subprocess.Popen([sys.executable, "-c", RESOLVE, address])
            assert in_the_middle.wait(timeout=60)
            killed.send_signal(signal.SIGKILL)
            killed.wait()
            go_on.set()
            assert leftovers(cache) != []
            assert names(resolve_model(address).folder) == set(FILES)
        assert leftovers(cache) == []

    def test_a_full_disk_is_told_and_nothing_is_left_on_it(self, tmp_path: Path, cache: Path) -> None:
        """As full as a disk is to a process that may not write files of more than 4 kB."""
        folder = written(tmp_path / "lake", {**FILES, "model.safetensors": b"x" * 10_000})
        limited = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n" + RESOLVE
        run = subprocess.run([sys.executable, "-c", limited, f"file://{folder}"], capture_output=True, text=True)
        assert run.stderr.splitlines()[-1].endswith(
            f"ModelNotFoundError: the files of file://{folder} can't be kept in {cache} (File too large); fix that, "
            "or set GLICLASS_SPARK_CACHE to another folder"
        )
        assert leftovers(cache) == []

    def test_a_cache_that_can_only_be_read_will_do_if_it_is_filled(self, store: Store, cache: Path) -> None:
        ref = resolve_model(store.address)
        for path in [cache, *cache.rglob("*")]:
            path.chmod(path.stat().st_mode & ~0o222)
        try:
            assert resolve_model(store.address) == resolve_model(store.address, ref.digest) == ref
        finally:
            for path in [cache, *cache.rglob("*")]:
                path.chmod(path.stat().st_mode | 0o200)


def test_only_an_address_of_a_store_loads_fsspec_and_only_one_of_the_hub_its_library(tmp_path: Path) -> None:
    program = f"{RESOLVE}; print(*{{'torch', 'fsspec', 'huggingface_hub', 'mlflow'}} & set(sys.modules))"
    loaded: Callable[[str], str] = lambda address: subprocess.check_output(  # noqa: E731
        [sys.executable, "-c", program, address], text=True
    ).splitlines()[1]
    assert loaded("embedded") == loaded(str(written(tmp_path / "local", FILES))) == ""
    assert loaded(f"file://{tmp_path}/local") == "fsspec"
