"""Commands of the model registry: models, register, promote, rollback."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from reference_models import Reference, tokenizer

from gliclass_spark.checkpoints.registry import Registry
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.cli.app import main
from gliclass_spark.model.checkpoint import load


def test_models_lists_the_versions_and_promote_and_rollback_move_the_champion(
    two_versions: Registry, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    digests = [version.digest[:12] for version in two_versions.versions("mail")]
    assert main(["promote", "mail", "--registry", two_versions.uri]) == 0
    assert main(["models", "mail", "--registry", two_versions.uri]) == 0
    promoted, *table = capsys.readouterr().out.splitlines()
    assert promoted == f"models:/mail/2 is the champion; digest {digests[1]}"
    rows = [line.split() for line in table if any(digest in line for digest in digests)]
    assert [row[1::2][:3] for row in rows] == [["2", "champion", digests[1]], ["1", "previous", digests[0]]]
    assert main(["rollback", "mail", "--registry", two_versions.uri]) == 0
    assert capsys.readouterr().out == f"models:/mail/1 is the champion again; digest {digests[0]}\n"


def test_an_error_is_one_line(two_versions: Registry, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["promote", "mail", "9"]) == 2
    output = (
        f"error: model 'mail' in {two_versions.uri} has no version or alias '9'; it has 1 = champion, 2 = challenger\n"
    )
    assert capsys.readouterr().err == output


def test_register_adds_versions_and_the_first_is_the_champion(
    registry: Registry, tiny_model: str, other_tiny_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["register", "mail", tiny_model]) == 0
    assert main(["register", "mail", other_tiny_model]) == 0
    assert [version.aliases for version in registry.versions("mail")] == [("champion",), ()]
    assert resolve_model("models:/mail@champion").digest == resolve_model(tiny_model).digest
    output = capsys.readouterr().out.splitlines()
    assert output[0].startswith("models:/mail/1, the champion; digest ")
    assert output[1].startswith("models:/mail/2; digest ")


def test_register_uploads_the_tokenizer_of_the_labels(
    registry: Registry, reference: Callable[..., Reference], tmp_path: Path
) -> None:
    folder = shutil.copytree(reference(architecture_type="bi-encoder").folder, tmp_path / "bi_encoder")
    label_tokenizer = tokenizer()
    label_tokenizer.add_tokens(["thingummy"])
    label_tokenizer.save_pretrained(folder / "label_tokenizer")
    assert main(["register", "mail", str(folder)]) == 0
    ref = resolve_model("models:/mail@champion")
    assert ref.digest == resolve_model(str(folder)).digest
    assert "thingummy" in load(ref).label_tokenizer.get_vocab()
