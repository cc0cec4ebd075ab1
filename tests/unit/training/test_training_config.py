"""Training files: strict keys, and errors that name the fix."""

from __future__ import annotations

from pathlib import Path

import pytest

from gliclass_spark.cli.app import main
from gliclass_spark.config.training import SamplingConfig, TrainingConfig
from gliclass_spark.errors import ConfigError

ROOT = Path(__file__).parents[3]


def write(folder: Path, text: str) -> Path:
    (folder / "training.yaml").write_text(text, encoding="utf-8")
    return folder / "training.yaml"


@pytest.mark.parametrize("path", sorted((ROOT / "conf" / "train").glob("*.yaml")), ids=lambda path: path.name)
def test_the_example_files_are_valid(path: Path) -> None:
    assert TrainingConfig.from_yaml(path) != TrainingConfig()


def test_keys_that_are_not_in_the_file_have_defaults(tmp_path: Path) -> None:
    config = TrainingConfig.from_yaml(write(tmp_path, "encoder_lr: 5e-5\nsampling: {texts: 16}\n"))
    assert config == TrainingConfig(encoder_lr=5e-5, sampling=SamplingConfig(texts=16))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("start_share: 0.3", "unknown key 'start_share'; remove it, or check its spelling"),
        ("sampling: {foreign_share: 0.1}", "unknown key 'sampling.foreign_share'"),
        ("sampling: {min_labels: 9, max_labels: 8}", "sampling: min_labels 9 is above max_labels 8; raise max_labels"),
        ("start_weight_share: 1.5", "start_weight_share: Input should be less than or equal to 1, found 1.5"),
        ("attention: none", "attention: Input should be 'joint', 'label-cached' or 'bi-encoder'"),
        ("head_fallback: {}", "head_fallback needs held-out examples to decide on it; add start_weight_folds: 2"),
        (
            "start_weight_folds: 2\nhead_fallback: {steps: 0}",
            "head_fallback.steps: Input should be greater than or equal",
        ),
        ("focal_alpha: -1", "focal_alpha: Input should be greater than 0, found -1"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name_and_key(text: str, message: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as error:
        TrainingConfig.from_yaml(path)
    assert str(error.value).startswith(f"{path}: ")
    assert message in str(error.value)


def test_the_train_command_reports_a_wrong_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, "focal: 2")
    assert main(["train", "--data", "mail.parquet", "--out", "model", "--config", str(path)]) == 2
    assert "unknown key 'focal'" in capsys.readouterr().err
