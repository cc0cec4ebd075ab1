"""The embedded model is small and complete, and its digest covers all of its weights."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from gliclass_spark.checkpoints import embedded_files
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import CheckpointError
from gliclass_spark.model import checkpoint
from gliclass_spark.model.checkpoint import Checkpoint
from gliclass_spark.model.configuration import read_config
from gliclass_spark.model.embedded import weights

WORDS = "encoder_model.embeddings.word_embeddings.weight"
MAX_BYTES = 25_000_000


@pytest.fixture(scope="module")
def loaded() -> Checkpoint:
    return checkpoint.load(resolve_model("embedded"))


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return weights.state_dict()


def test_the_weights_take_at_most_25_megabytes() -> None:
    assert embedded_files.WEIGHTS.stat().st_size <= MAX_BYTES


def test_the_weights_hold_no_word_embeddings() -> None:
    stored = load_file(embedded_files.WEIGHTS)
    assert not [name for name in stored if "word_embeddings" in name]
    assert max(weight.shape[0] for weight in stored.values() if weight.dim()) < 10_000


def test_every_weight_of_the_model_is_stored_and_no_other(loaded: Checkpoint, state: dict[str, Tensor]) -> None:
    assert set(loaded.model.state_dict()) == set(state)
    assert all(torch.isfinite(weight).all() for weight in state.values())


def test_words_and_tokenizer_are_those_of_the_encoders_package(loaded: Checkpoint) -> None:
    words = loaded.model.state_dict()[WORDS]
    assert torch.equal(words, weights.base_state_dict()[WORDS])
    assert len(loaded.tokenizer) == loaded.model.config.vocab_size == len(words)


def test_the_engine_imports_nothing_slower_than_torch() -> None:
    heavy = "{'transformers.modeling_utils', 'torch._dynamo', 'sympy', 'accelerate', 'scipy', 'sklearn', 'pandas'}"
    program = (
        "import sys; from gliclass_spark.inference.engine import Engine; "
        f"Engine.from_pretrained('embedded').scores(['a lake'], ['x', 'y']); print(*{heavy} & set(sys.modules))"
    )
    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "\n"


def test_the_digest_covers_layers_config_words_and_tokenizer(loaded: Checkpoint) -> None:
    assert {path.name for path in embedded_files.files()} == {"config.json", "model.safetensors", "tokenizer.json"}
    assert len(embedded_files.files()) == 4
    assert resolve_model("embedded").digest == loaded.ref.digest


def test_the_digest_changes_with_the_layers(state: dict[str, Tensor], tmp_path: Path) -> None:
    before = resolve_model("embedded").digest
    changed = tmp_path / "model.safetensors"
    weights.save_layers({**state, "logit_scale": torch.tensor(3.0)}, changed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded_files, "WEIGHTS", changed)
        assert resolve_model("embedded").digest != before


def test_saved_layers_are_exact_to_half_a_step_of_float16(state: dict[str, Tensor], tmp_path: Path) -> None:
    torch.manual_seed(0)
    name, path = "text_projector.weight", tmp_path / "model.safetensors"
    trained = {**state, name: torch.randn(384, 384) * torch.logspace(-6, 2, 384)[:, None]}
    weights.save_layers(trained, path)
    reloaded = weights.state_dict(path)
    assert set(reloaded) == set(state)
    half_a_step = trained[name].abs().clamp_min(2.0**-14) * 2.0**-11
    assert ((reloaded[name] - trained[name]).abs() <= half_a_step).all()
    for other_name in state.keys() - {name}:
        assert torch.equal(reloaded[other_name], state[other_name])


def test_weights_beyond_float16_are_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    name, path = "text_projector.weight", tmp_path / "model.safetensors"
    with pytest.raises(CheckpointError, match=f"{name} has weights that are not finite in float16"):
        weights.save_layers({**state, name: state[name] * 1e9}, path)
    assert not path.exists()


def test_trained_word_embeddings_are_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(CheckpointError, match="the word embeddings are not those of all-MiniLM-L6-v2"):
        weights.save_layers({**state, WORDS: state[WORDS] + 1}, path)
    assert not path.exists()


def test_the_configuration_holds_no_path_of_the_training_machine() -> None:
    assert "site-packages" not in (embedded_files.FOLDER / "config.json").read_text(encoding="utf-8")
    assert "_name_or_path" not in read_config(embedded_files.FOLDER).to_dict()["encoder_config"]
