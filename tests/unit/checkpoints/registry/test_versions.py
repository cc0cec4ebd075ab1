"""Versions of registered models, in a real MLflow on SQLite: registration, aliases, promotions."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gliclass_spark.checkpoints.digest import digest_of
from gliclass_spark.checkpoints.files import INDEX, WEIGHTS
from gliclass_spark.checkpoints.registry import ModelVersion, Registry
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import (
    CheckpointError,
    ModelNotFoundError,
)
from gliclass_spark.inference.engine import Engine

TEXTS, LABELS = ["a lake of data", "buy now"], ["spam", "lake"]


def aliases(registry: Registry) -> dict[str, int]:
    return {alias: version.number for version in registry.versions("mail") for alias in version.aliases}


class TestRegister:
    def test_the_champion_has_the_digest_and_the_scores_of_the_registered_checkpoint(
        self, registry: Registry, register: Callable[..., ModelVersion], tiny_label_cached_model: str
    ) -> None:
        version = register(tiny_label_cached_model, macro_f1="0.71")
        registry.promote("mail", "1")
        ref = resolve_model("models:/mail@champion")
        assert ref.digest == version.digest == resolve_model(tiny_label_cached_model).digest
        assert resolve_model("models:/mail/1") == replace(ref, uri="models:/mail/1")
        before = Engine.from_pretrained(tiny_label_cached_model, device="cpu", precision="float32")
        after = Engine.from_pretrained("models:/mail@champion", device="cpu", precision="float32")
        assert after.scores(TEXTS, LABELS).tolist() == before.scores(TEXTS, LABELS).tolist()
        assert registry.version("mail", "champion").tags == {"macro_f1": "0.71"}

    def test_registering_again_in_the_same_run_returns_the_same_version(
        self, registry: Registry, tiny_model: str, other_tiny_model: str
    ) -> None:
        with registry.run("retraining", "retrain-1", {}) as tracked:
            first = registry.register("mail", Path(tiny_model), tracked.run_id)
            other = registry.register("mail", Path(other_tiny_model), tracked.run_id)
            assert registry.register("mail", Path(tiny_model), tracked.run_id) == first
        assert (first.number, other.number) == (1, 2)
        assert [resolve_model(version.uri).digest for version in (first, other)] == [first.digest, other.digest]

    def test_the_label_set_is_uploaded(
        self, registry: Registry, register: Callable[..., ModelVersion], tiny_model: str, tmp_path: Path
    ) -> None:
        folder = shutil.copytree(tiny_model, tmp_path / "checkpoint")
        (folder / "label_set.yaml").write_text("name: mail\n")
        (folder / "training_state.pt").write_text("not uploaded")
        source = Path(register(folder).source.removeprefix("file://"))
        assert (source / "label_set.yaml").read_text() == "name: mail\n"
        assert not (source / "training_state.pt").exists()

    def test_sharded_weights_and_the_tokenizer_of_labels_are_uploaded(
        self, register: Callable[..., ModelVersion], tiny_model: str, tmp_path: Path
    ) -> None:
        folder, shard = shutil.copytree(tiny_model, tmp_path / "checkpoint"), "model-00001-of-00001.safetensors"
        (folder / WEIGHTS).rename(folder / shard)
        (folder / INDEX).write_text(json.dumps({"weight_map": {"x": shard}}))
        (folder / "label_tokenizer").mkdir()
        (folder / "label_tokenizer" / "vocab.txt").write_text("words")
        version = register(folder)
        assert version.digest == digest_of(folder)
        assert digest_of(resolve_model("models:/mail/1").folder) == version.digest

    def test_pickled_weights_are_not_registered(self, registry: Registry, register: Any, tmp_path: Path) -> None:
        (tmp_path / "pickled").mkdir()
        (tmp_path / "pickled" / "pytorch_model.bin").write_bytes(b"\x80\x04.")
        with pytest.raises(
            CheckpointError, match=r"pytorch_model.bin but no model.safetensors: pickled weights can run"
        ):
            register(tmp_path / "pickled")
        with pytest.raises(ModelNotFoundError, match="there is no model 'mail' in sqlite:"):
            registry.versions("mail")

    def test_pickled_weights_in_the_artifact_store_are_not_fetched(
        self, register: Callable[..., ModelVersion], tiny_model: str, tmp_path: Path
    ) -> None:
        version = register(tiny_model)
        source = Path(version.source.removeprefix("file://"))
        (source / WEIGHTS).rename(source / "pytorch_model.bin")
        with pytest.raises(CheckpointError, match=r"models:/mail/1 holds pytorch_model.bin but no model.safetensors"):
            resolve_model("models:/mail/1")
        assert not (tmp_path / "cache" / "models" / version.digest).exists()

    def test_files_that_changed_in_the_artifact_store_are_refused(
        self, register: Callable[..., ModelVersion], tiny_model: str, other_tiny_model: str
    ) -> None:
        version = register(tiny_model)
        shutil.copy(Path(other_tiny_model, WEIGHTS), version.source.removeprefix("file://"))
        actual, expected = resolve_model(other_tiny_model).digest[:12], version.digest[:12]
        with pytest.raises(
            CheckpointError,
            match=f"models:/mail/1 in sqlite:.* gave files with the digest {actual}, expected {expected}",
        ):
            resolve_model("models:/mail/1")

    def test_a_version_without_a_digest_is_refused(
        self, registry: Registry, register: Callable[..., ModelVersion], tiny_model: str
    ) -> None:
        source = register(tiny_model).source
        registry._client.create_model_version("mail", source)
        assert registry.version("mail", "2").digest == ""
        with pytest.raises(ModelNotFoundError, match="models:/mail/2 has no digest to check its files by"):
            resolve_model("models:/mail/2")


class TestAliases:
    def test_a_promotion_makes_the_champion_previous_and_a_rollback_undoes_it(self, two_versions: Registry) -> None:
        assert aliases(two_versions) == {"champion": 1, "challenger": 2}
        assert two_versions.promote("mail").number == 2
        assert aliases(two_versions) == {"champion": 2, "previous": 1}
        assert two_versions.rollback("mail").number == 1
        assert aliases(two_versions) == {"champion": 1, "previous": 2}

    @pytest.mark.parametrize("completed_writes", [0, 1, 2])
    def test_an_interrupted_promotion_has_a_champion_and_is_completed_by_repeating_it(
        self, two_versions: Registry, completed_writes: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Killed before its first, second or third change."""
        writes = []

        def killed(write: Callable[..., None], *args: str) -> None:
            if len(writes) == completed_writes:
                raise KeyboardInterrupt
            writes.append(args)
            write(*args)

        client = two_versions._client
        with monkeypatch.context() as patched:
            for name in ("set_registered_model_alias", "delete_registered_model_alias"):
                write = getattr(client, name)
                patched.setattr(client, name, lambda *args, write=write: killed(write, *args))
            with pytest.raises(KeyboardInterrupt):
                two_versions.promote("mail")
        assert aliases(two_versions)["champion"] in (1, 2)
        two_versions.promote("mail")
        assert aliases(two_versions) == {"champion": 2, "previous": 1}

    def test_a_rollback_without_a_previous_champion_is_refused(self, two_versions: Registry) -> None:
        with pytest.raises(
            ModelNotFoundError, match=r"'mail' in sqlite:.* has no version before its champion to go back"
        ):
            two_versions.rollback("mail")
        assert aliases(two_versions) == {"champion": 1, "challenger": 2}

    def test_promoting_the_champion_changes_nothing(self, two_versions: Registry) -> None:
        two_versions.promote("mail")
        two_versions.promote("mail", "champion")
        assert aliases(two_versions) == {"champion": 2, "previous": 1}

    def test_an_unknown_version_or_alias_lists_the_existing_ones(self, two_versions: Registry) -> None:
        for selector, uri in (("staging", "models:/mail@staging"), ("7", "models:/mail/7")):
            expected = f"'mail' in sqlite:.* has no version or alias '{selector}'; it has 1 = champion, 2 = challenger"
            with pytest.raises(ModelNotFoundError, match=expected):
                resolve_model(uri)

    def test_a_digest_is_resolved_after_its_alias_has_moved(self, two_versions: Registry, tmp_path: Path) -> None:
        first = resolve_model("models:/mail@champion")
        two_versions.promote("mail")
        assert resolve_model("models:/mail@champion").digest != first.digest
        assert resolve_model("models:/mail@champion", first.digest) == first
        shutil.rmtree(tmp_path / "cache")  # another machine
        assert resolve_model("models:/mail@champion", first.digest) == first
        with pytest.raises(ModelNotFoundError, match=r"none of the 2 versions of model 'mail' .* has the digest 0000"):
            resolve_model("models:/mail@champion", "0" * 64)
