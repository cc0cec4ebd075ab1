"""Registered models, in a real MLflow on SQLite: versions, aliases, promotions, and the commands about them."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from reference_models import Reference, tokenizer

from gliclass_spark.checkpoints.digest import digest_of
from gliclass_spark.checkpoints.files import INDEX, WEIGHTS
from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.checkpoints.registry import ModelVersion, Registry
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.cli.app import main
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.errors import (
    CheckpointError,
    ConfigError,
    ModelNotFoundError,
    RegistryError,
)
from gliclass_spark.inference.engine import Engine
from gliclass_spark.model.checkpoint import load

TEXTS, LABELS = ["a lake of data", "buy now"], ["spam", "lake"]


def aliases(registry: Registry) -> dict[str, int]:
    return {alias: version.number for version in registry.versions("mail") for alias in version.aliases}


class TestRegister:
    def test_the_champion_is_the_checkpoint_that_was_registered_with_its_digest_and_its_scores(
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

    def test_registering_again_in_the_same_run_gives_the_same_version(
        self, registry: Registry, tiny_model: str, other_tiny_model: str
    ) -> None:
        with registry.run("retraining", "night", {}) as tracked:
            first = registry.register("mail", Path(tiny_model), tracked.run_id)
            other = registry.register("mail", Path(other_tiny_model), tracked.run_id)
            assert registry.register("mail", Path(tiny_model), tracked.run_id) == first
        assert (first.number, other.number) == (1, 2)
        assert [resolve_model(each.uri).digest for each in (first, other)] == [first.digest, other.digest]

    def test_a_label_set_goes_along(
        self, registry: Registry, register: Callable[..., ModelVersion], tiny_model: str, tmp_path: Path
    ) -> None:
        folder = shutil.copytree(tiny_model, tmp_path / "checkpoint")
        (folder / "label_set.yaml").write_text("name: mail\n")
        (folder / "training_state.pt").write_text("not for others")
        source = Path(register(folder).source.removeprefix("file://"))
        assert (source / "label_set.yaml").read_text() == "name: mail\n"
        assert not (source / "training_state.pt").exists()

    def test_weights_in_several_files_and_the_tokenizer_of_labels_go_along(
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

    def test_pickled_weights_that_someone_put_there_are_not_fetched(
        self, register: Callable[..., ModelVersion], tiny_model: str, tmp_path: Path
    ) -> None:
        version = register(tiny_model)
        source = Path(version.source.removeprefix("file://"))
        (source / WEIGHTS).rename(source / "pytorch_model.bin")
        with pytest.raises(CheckpointError, match=r"models:/mail/1 holds pytorch_model.bin but no model.safetensors"):
            resolve_model("models:/mail/1")
        assert not (tmp_path / "cache" / "models" / version.digest).exists()

    def test_files_that_were_changed_in_the_registry_are_refused(
        self, register: Callable[..., ModelVersion], tiny_model: str, other_tiny_model: str
    ) -> None:
        version = register(tiny_model)
        shutil.copy(Path(other_tiny_model, WEIGHTS), version.source.removeprefix("file://"))
        found, expected = resolve_model(other_tiny_model).digest[:12], version.digest[:12]
        with pytest.raises(
            CheckpointError,
            match=f"models:/mail/1 in sqlite:.* gave files with the digest {found}, expected {expected}",
        ):
            resolve_model("models:/mail/1")

    def test_a_version_that_was_registered_by_other_means_is_told(
        self, registry: Registry, register: Callable[..., ModelVersion], tiny_model: str
    ) -> None:
        source = register(tiny_model).source
        registry._client.create_model_version("mail", source)
        assert registry.version("mail", "2").digest == ""
        with pytest.raises(ModelNotFoundError, match="models:/mail/2 has no digest to check its files by"):
            resolve_model("models:/mail/2")


class TestRun:
    def test_a_run_holds_parameters_metrics_tags_artifacts_and_the_environment(
        self, registry: Registry, tmp_path: Path
    ) -> None:
        (tmp_path / "scores.json").write_text("{}")
        with registry.run("retraining", "night-1", {"steps": 3, "data_version": 17}) as tracked:
            for step, loss in enumerate([3.0, 2.0]):
                tracked.log_metrics({"loss": loss}, step)
            tracked.set_tags({"data": "mail"})
            tracked.log_artifact(tmp_path / "scores.json", "report")
        run = registry._client.get_run(tracked.run_id)
        assert (run.info.status, run.info.run_name) == ("FINISHED", "night-1")
        assert run.data.params == {"steps": "3", "data_version": "17"}
        curve = registry._client.get_metric_history(tracked.run_id, "loss")
        assert [(point.step, point.value) for point in curve] == [(0, 3.0), (1, 2.0)]
        assert {"data", "python", "torch", "transformers", "gliclass_spark"} <= run.data.tags.keys()
        assert [each.path for each in registry._client.list_artifacts(tracked.run_id, "report")] == [
            "report/scores.json"
        ]

    def test_a_run_whose_block_raises_has_failed(self, registry: Registry) -> None:
        with pytest.raises(ZeroDivisionError), registry.run("retraining", "night-1", {}) as tracked:
            _ = 1 / 0
        assert registry._client.get_run(tracked.run_id).info.status == "FAILED"


class TestAliases:
    def test_a_promotion_moves_the_champion_to_previous_and_a_rollback_takes_it_back(self, two: Registry) -> None:
        assert aliases(two) == {"champion": 1, "challenger": 2}
        assert two.promote("mail").number == 2
        assert aliases(two) == {"champion": 2, "previous": 1}
        assert two.rollback("mail").number == 1
        assert aliases(two) == {"champion": 1, "previous": 2}

    @pytest.mark.parametrize("done", [0, 1, 2])
    def test_a_promotion_that_died_half_way_has_a_champion_and_ends_right_when_it_is_repeated(
        self, two: Registry, done: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Killed before its first, second or third change."""
        writes = []

        def killed(write: Callable[..., None], *args: str) -> None:
            if len(writes) == done:
                raise KeyboardInterrupt
            writes.append(args)
            write(*args)

        client = two._client
        with monkeypatch.context() as patched:
            for name in ("set_registered_model_alias", "delete_registered_model_alias"):
                write = getattr(client, name)
                patched.setattr(client, name, lambda *args, write=write: killed(write, *args))
            with pytest.raises(KeyboardInterrupt):
                two.promote("mail")
        assert aliases(two)["champion"] in (1, 2)
        two.promote("mail")
        assert aliases(two) == {"champion": 2, "previous": 1}

    def test_there_is_nothing_to_go_back_to_before_a_second_champion(self, two: Registry) -> None:
        with pytest.raises(
            ModelNotFoundError, match=r"'mail' in sqlite:.* has no version before its champion to go back"
        ):
            two.rollback("mail")
        assert aliases(two) == {"champion": 1, "challenger": 2}

    def test_promoting_the_champion_changes_nothing(self, two: Registry) -> None:
        two.promote("mail")
        two.promote("mail", "champion")
        assert aliases(two) == {"champion": 2, "previous": 1}

    def test_an_unknown_version_or_alias_lists_what_there_is(self, two: Registry) -> None:
        for which, address in (("staging", "models:/mail@staging"), ("7", "models:/mail/7")):
            expected = f"'mail' in sqlite:.* has no version or alias '{which}'; it has 1 = champion, 2 = challenger"
            with pytest.raises(ModelNotFoundError, match=expected):
                resolve_model(address)

    def test_an_alias_that_moved_does_not_hide_the_digest_that_it_had(self, two: Registry, tmp_path: Path) -> None:
        first = resolve_model("models:/mail@champion")
        two.promote("mail")
        assert resolve_model("models:/mail@champion").digest != first.digest
        assert resolve_model("models:/mail@champion", first.digest) == first
        shutil.rmtree(tmp_path / "cache")  # another machine
        assert resolve_model("models:/mail@champion", first.digest) == first
        with pytest.raises(ModelNotFoundError, match=r"none of the 2 versions of model 'mail' .* has the digest 0000"):
            resolve_model("models:/mail@champion", "0" * 64)


class TestAddress:
    @pytest.mark.parametrize("address", ["models:/mail", "models:/mail@", "models:/../x/3", "models:/mail/latest"])
    def test_an_address_of_another_form_is_refused_where_it_is_written(self, address: str, tmp_path: Path) -> None:
        with pytest.raises(ModelNotFoundError, match="is no registered model; write models:/NAME@champion or models:/"):
            resolve_model(address)
        with pytest.raises(ConfigError, match=r"model: .* is no registered model; write models:/NAME@champion"):
            pipeline(tmp_path, address)

    def test_a_pipeline_file_keeps_the_address_as_it_is(self, tmp_path: Path) -> None:
        assert pipeline(tmp_path, "models:/mail@champion").model == "models:/mail@champion"

    def test_a_name_that_can_be_no_address_is_not_registered(self, registry: Registry, tiny_model: str) -> None:
        with pytest.raises(RegistryError, match="'e mail' can't be the name of a model; use letters"):
            registry.register("e mail", Path(tiny_model), "run")


class TestRegistryArgument:
    def test_a_model_is_resolved_in_the_registry_that_is_passed_and_the_environment_stays_as_it_is(
        self, two: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
        environment = dict(os.environ)
        ref = resolve_model("models:/mail@champion", registry=two.uri)
        assert (ref.digest, ref.registry) == (two.version("mail", "champion").digest, two.uri)
        assert Engine.from_pretrained("models:/mail@champion", registry=two.uri, device="cpu").ref == ref
        assert dict(os.environ) == environment

    def test_a_worker_fetches_by_digest_from_the_registry_of_the_reference(
        self, two: Registry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
        ref = resolve_model("models:/mail@champion", registry=two.uri)
        two.promote("mail")
        shutil.rmtree(tmp_path / "cache")  # the worker's machine
        assert resolve_model(ref.uri, ref.digest, ref.registry) == ref

    def test_a_password_in_the_uri_of_the_registry_is_not_shown(self) -> None:
        ref = ModelRef("models:/mail@champion", Path("folder"), "0" * 64, registry="http://user:secret@host")
        assert "secret" not in repr(ref)


class TestCommands:
    def test_models_lists_the_versions_and_promote_and_rollback_move_the_champion(
        self, two: Registry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("MLFLOW_TRACKING_URI")
        digests = [version.digest[:12] for version in two.versions("mail")]
        assert main(["promote", "mail", "--registry", two.uri]) == 0
        assert main(["models", "mail", "--registry", two.uri]) == 0
        promoted, *table = capsys.readouterr().out.splitlines()
        assert promoted == f"models:/mail/2 is the champion; digest {digests[1]}"
        rows = [line.split() for line in table if any(digest in line for digest in digests)]
        assert [row[1::2][:3] for row in rows] == [["2", "champion", digests[1]], ["1", "previous", digests[0]]]
        assert main(["rollback", "mail", "--registry", two.uri]) == 0
        assert capsys.readouterr().out == f"models:/mail/1 is the champion again; digest {digests[0]}\n"

    def test_an_error_is_one_line(self, two: Registry, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["promote", "mail", "9"]) == 2
        said = f"error: model 'mail' in {two.uri} has no version or alias '9'; it has 1 = champion, 2 = challenger\n"
        assert capsys.readouterr().err == said

    def test_register_puts_a_checkpoint_there_and_the_first_one_is_the_champion(
        self, registry: Registry, tiny_model: str, other_tiny_model: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["register", "mail", tiny_model]) == 0
        assert main(["register", "mail", other_tiny_model]) == 0
        assert aliases(registry) == {"champion": 1}
        assert resolve_model("models:/mail@champion").digest == resolve_model(tiny_model).digest
        said = capsys.readouterr().out.splitlines()
        assert said[0].startswith("models:/mail/1, the champion; digest ")
        assert said[1].startswith("models:/mail/2; digest ")

    def test_register_takes_the_tokenizer_of_the_labels_along(
        self, registry: Registry, reference: Callable[..., Reference], tmp_path: Path
    ) -> None:
        folder = shutil.copytree(reference(architecture_type="bi-encoder").folder, tmp_path / "bi_encoder")
        own = tokenizer()
        own.add_tokens(["thingummy"])
        own.save_pretrained(folder / "label_tokenizer")
        assert main(["register", "mail", str(folder)]) == 0
        found = resolve_model("models:/mail@champion")
        assert found.digest == resolve_model(str(folder)).digest
        assert "thingummy" in load(found).label_tokenizer.get_vocab()


def pipeline(folder: Path, model: str) -> Pipeline:
    (folder / "pipeline.yaml").write_text(
        f"name: mail\nsource: {{path: mail, id: id, text: body}}\nlabel_set: [spam]\ntables: lake\nmodel: {model!r}\n"
    )
    return Pipeline.from_yaml(folder / "pipeline.yaml")
