"""Files of a checkpoint: weights in one or several files, tokenizers, custom code, and the digest over all of them."""

from __future__ import annotations

import json
import shutil
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from gliclass_spark.checkpoints.cache import CACHE_VARIABLE
from gliclass_spark.checkpoints.code_keys import code_key
from gliclass_spark.checkpoints.digest import digest_of
from gliclass_spark.checkpoints.files import CONFIG, INDEX, PATTERNS, WEIGHTS, is_checkpoint_file
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import CheckpointError
from gliclass_spark.model import checkpoint

SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


@pytest.fixture
def folder(tiny_model: str, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "checkpoint"))


@pytest.fixture
def sharded(folder: Path) -> Path:
    """The weights in two files, as large models are saved."""
    state = load_file(folder / WEIGHTS)
    index = {name: SHARDS[position % 2] for position, name in enumerate(sorted(state))}
    for shard in SHARDS:
        save_file({name: state[name] for name in index if index[name] == shard}, folder / shard)
    (folder / WEIGHTS).unlink()
    write_index(folder, index)
    return folder


def write_index(folder: Path, weight_map: Any) -> None:
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as refused:
        checkpoint.load(resolve_model(str(folder)))
    return str(refused.value)


class TestDigest:
    def test_its_definition_does_not_change(self, tmp_path: Path) -> None:
        """Tables and registries store digests: SHA-256 over the name and the SHA-256 of each file, in this order."""
        files = {"config.json": b"{}", "model.safetensors": b"w", "tokenizer.json": b"t", "vocab.txt": b"v"}
        for name, content in files.items():
            (tmp_path / name).write_bytes(content)
        expected = b"".join(name.encode() + b"\0" + sha256(content).digest() for name, content in files.items())
        assert digest_of(tmp_path) == sha256(expected).hexdigest()

    @pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json", "vocab.txt"])
    def test_it_covers_the_tokenizer_of_labels(self, folder: Path, name: str) -> None:
        digests = [digest_of(folder)]
        (folder / "label_tokenizer").mkdir()
        digests.append(digest_of(folder))
        for content in ("one", "two"):
            (folder / "label_tokenizer" / name).write_text(content)
            digests.append(digest_of(folder))
        assert digests[0] == digests[1]
        assert len(set(digests)) == 3

    def test_it_covers_the_folder_of_a_tokenizer_file(self, folder: Path) -> None:
        (folder / "label_tokenizer").mkdir()
        (folder / "label_tokenizer" / "vocab.txt").write_text("words")
        before = digest_of(folder)
        (folder / "label_tokenizer" / "vocab.txt").rename(folder / "vocab.txt")
        assert digest_of(folder) != before

    @pytest.mark.parametrize("name", [INDEX, *SHARDS])
    def test_it_covers_every_shard_and_the_index(self, sharded: Path, name: str) -> None:
        before = digest_of(sharded)
        content = bytearray((sharded / name).read_bytes())
        content[-3] ^= 1
        if name == INDEX:
            content = bytearray((sharded / name).read_bytes().replace(b'"total_size": 1', b'"total_size": 2'))
        (sharded / name).write_bytes(content)
        assert digest_of(sharded) != before

    def test_it_ignores_shards_next_to_a_single_file(self, folder: Path) -> None:
        before = digest_of(folder)
        write_index(folder, {"x": SHARDS[0]})
        (folder / SHARDS[0]).write_bytes(b"")
        assert digest_of(folder) == before


class TestShards:
    def test_sharded_weights_load_as_the_single_file(self, tiny_model: str, sharded: Path) -> None:
        expected = checkpoint.load(resolve_model(tiny_model)).model.state_dict()
        sharded_state = checkpoint.load(resolve_model(str(sharded))).model.state_dict()
        assert sharded_state.keys() == expected.keys()
        assert all(torch.equal(sharded_state[name], weight) for name, weight in expected.items())

    def test_a_missing_or_damaged_shard_is_named(self, sharded: Path) -> None:
        (sharded / SHARDS[1]).write_bytes(b"x")
        assert refusal(sharded).startswith(f"{sharded / SHARDS[1]} is damaged (")
        (sharded / SHARDS[1]).unlink()
        assert refusal(sharded) == (
            f"{INDEX} of {sharded} names {SHARDS[1]}, which is missing; fetch the checkpoint again"
        )

    @pytest.mark.parametrize(
        "name", ["../model-00001-of-00002.safetensors", "/etc/passwd", "pytorch_model.bin", "model-1.safetensors", ""]
    )
    def test_a_shard_with_an_invalid_name_is_never_opened(self, sharded: Path, name: str) -> None:
        write_index(sharded, {"x": name})
        assert refusal(sharded).startswith(f"{INDEX} of {sharded} names {name!r}, expected files beside it, as model-0")

    @pytest.mark.parametrize(
        "damage", [b"", b"{", b"[]", b"{}", b'{"weight_map": []}', b'{"weight_map": null}', b"[" * 100_000, b"\xff"]
    )
    def test_an_invalid_index_is_refused(self, sharded: Path, damage: bytes) -> None:
        (sharded / INDEX).write_bytes(damage)
        assert refusal(sharded) == f"{INDEX} of {sharded} can't be read; fetch the checkpoint again"

    def test_an_empty_index_is_refused(self, sharded: Path) -> None:
        write_index(sharded, {})
        assert refusal(sharded) == f"{INDEX} of {sharded} names no file of weights; save the checkpoint again"

    def test_all_shards_are_fetched(self, sharded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
        assert resolve_model(f"file://{sharded}").digest == digest_of(sharded)


class TestLinks:
    """A file of a checkpoint is never a link out of its folder: not when it is read, registered or fetched."""

    @pytest.fixture
    def secret(self, tmp_path: Path) -> Path:
        (tmp_path / "credentials").write_text("SECRET")
        return tmp_path / "credentials"

    @pytest.mark.parametrize("name", [*(name for name in PATTERNS if "[" not in name), *SHARDS])
    def test_a_link_out_of_the_folder_is_refused(self, folder: Path, sharded: Path, secret: Path, name: str) -> None:
        (sharded / "label_tokenizer").mkdir()
        (sharded / name).unlink(missing_ok=True)
        (sharded / name).symlink_to(secret)
        fix = "which is never followed; put the file itself there"
        expected = f"{name} of {sharded} is a symbolic link out of its folder, {fix}"
        assert refusal(sharded) == expected
        (sharded / name).unlink()
        (sharded / name).symlink_to(Path("..", *[".."] * name.count("/"), "credentials"))
        assert refusal(sharded) == expected

    def test_a_linked_folder_in_it_is_refused(self, folder: Path, tmp_path: Path) -> None:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "vocab.txt").write_text("SECRET")
        (folder / "label_tokenizer").symlink_to(tmp_path / "elsewhere")
        assert refusal(folder).startswith(f"label_tokenizer/vocab.txt of {folder} is a symbolic link out of its folder")

    def test_it_is_not_fetched_from_a_store_of_files(self, folder: Path, secret: Path, tmp_path: Path) -> None:
        (folder / "spm.model").symlink_to(secret)
        with pytest.raises(CheckpointError, match=r"spm\.model of file:///.* is a symbolic link out of its folder"):
            resolve_model(f"file://{folder}")

    def test_links_within_the_folder_to_the_folder_and_in_the_hubs_cache_are_followed(
        self, folder: Path, tmp_path: Path
    ) -> None:
        expected = digest_of(folder)
        (folder / "..data").mkdir()  # as Kubernetes mounts files
        (folder / CONFIG).rename(folder / "..data" / CONFIG)
        (folder / CONFIG).symlink_to(Path("..data", CONFIG))
        (tmp_path / "current").symlink_to(folder)
        assert digest_of(tmp_path / "current") == expected
        cache = tmp_path / "models--org--mail"
        (cache / "blobs").mkdir(parents=True)
        (cache / "snapshots" / "abc").mkdir(parents=True)
        for path in (path for path in folder.iterdir() if path.is_file()):
            shutil.copy(path, cache / "blobs" / sha256(path.name.encode()).hexdigest())
            (cache / "snapshots" / "abc" / path.name).symlink_to(
                Path("..", "..", "blobs", sha256(path.name.encode()).hexdigest())
            )
        assert digest_of(cache / "snapshots" / "abc") == expected


class TestCode:
    @pytest.mark.parametrize("path", [(), ("encoder_config",), ("label_config", "text_config")])
    def test_custom_code_is_refused_with_its_key_at_any_depth(self, folder: Path, path: tuple[str, ...]) -> None:
        configuration: dict[str, Any] = {"auto_map": {"AutoModel": "other/repository--trap.Trap"}}
        for key in reversed(path):
            configuration = {key: configuration}
        document = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**document, **configuration}))
        key = ".".join((*path, "auto_map"))
        assert refusal(folder) == (
            f"config.json of {folder} needs code of its own ({key}), but code from a checkpoint is never run; use "
            "a checkpoint whose encoder is part of transformers"
        )

    @pytest.mark.parametrize("where", ["", "encoder_config", "label_model_config", "encoder_config.text_config", "x.0"])
    @pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
    @pytest.mark.parametrize(
        "value", ["org/kernel", "org/kernel@main:attend", "paged|org/kernel", {"": "org/kernel"}, ["org/kernel"], 3]
    )
    def test_an_implementation_from_elsewhere_is_refused_with_its_key(self, where: str, key: str, value: Any) -> None:
        document: Any = {key: value}
        for part in reversed(where.split(".") if where else []):
            document = [document] if part == "0" else {part: document}
        assert code_key(document) == (f"{where}.{key}" if where else key)

    @pytest.mark.parametrize("value", [None, "eager", "sdpa", "flash_attention_2", {"text_config": "sdpa", "": None}])
    def test_an_implementation_of_transformers_itself_is_accepted(self, folder: Path, value: Any) -> None:
        document = json.loads((folder / "config.json").read_text())
        document["encoder_config"] |= {"attn_implementation": value, "_attn_implementation": value}
        (folder / "config.json").write_text(json.dumps(document))
        checkpoint.load(resolve_model(str(folder)))

    @pytest.mark.parametrize("empty", [None, {}, ""])
    def test_an_empty_auto_map_is_accepted(self, folder: Path, empty: Any) -> None:
        document = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**document, "auto_map": empty}))
        checkpoint.load(resolve_model(str(folder)))

    @pytest.mark.parametrize("opening", ["[", '{"a":'])
    def test_a_configuration_of_a_hundred_thousand_levels_is_refused(self, folder: Path, opening: str) -> None:
        (folder / "config.json").write_text(opening * 100_000)
        assert refusal(folder).startswith(f"{folder / 'config.json'} is not valid JSON (")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("config.json", True),
        ("model.safetensors", True),
        (SHARDS[0], True),
        ("label_tokenizer/tokenizer.json", True),
        ("pytorch_model.bin", False),
        ("modeling_trap.py", False),
        ("onnx/model.safetensors", False),
        ("model-/../../x-of-1.safetensors", False),
        ("model-00001/../../x-of-00002.safetensors", False),
        ("model-..\\..-of-.safetensors", False),
        ("model-1-of-2.safetensors", False),
        ("adapter_model.safetensors", False),
        ("label_tokenizer/config.json", False),
        ("label_tokenizer/../config.json", False),
        ("", False),
        ("..", False),
    ],
)
def test_names_of_checkpoint_files(name: str, expected: bool) -> None:
    assert is_checkpoint_file(name) is expected
