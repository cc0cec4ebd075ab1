"""The embedded model is small, complete, and says where each of its weights comes from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from gliclass_spark.model import checkpoint, embedded, location
from gliclass_spark.model.checkpoint import Checkpoint
from gliclass_spark.model.configuration import read_config
from gliclass_spark.model.embedded import weights

WORDS = "encoder_model.embeddings.word_embeddings.weight"
MAX_BYTES = 25_000_000


@pytest.fixture(scope="module")
def loaded() -> Checkpoint:
    return checkpoint.load(location.resolve("embedded"))


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return weights.state_dict()


def test_the_weights_take_at_most_25_megabytes() -> None:
    assert embedded.WEIGHTS.stat().st_size <= MAX_BYTES


def test_the_weights_hold_no_word_embeddings_but_those_of_the_new_tokens() -> None:
    stored = load_file(embedded.WEIGHTS)
    assert not [name for name in stored if "word_embeddings" in name and name != "new_word_embeddings"]
    assert stored["new_word_embeddings"].shape == (2, 384)
    assert max(weight.shape[0] for weight in stored.values() if weight.dim()) < 10_000


def test_every_weight_of_the_model_is_there_and_none_is_left_over(loaded: Checkpoint, state: dict[str, Tensor]) -> None:
    assert set(loaded.model.state_dict()) == set(state)
    assert all(torch.isfinite(weight).all() for weight in state.values())


def test_the_tokenizer_is_the_one_that_the_config_speaks_of(loaded: Checkpoint) -> None:
    config = loaded.model.config
    assert loaded.tokenizer.convert_tokens_to_ids(["<<LABEL>>", "<<SEP>>"]) == [
        config.class_token_index,
        config.text_token_index,
    ]
    assert len(loaded.tokenizer) == config.vocab_size == len(loaded.model.state_dict()[WORDS])


def test_the_words_of_the_encoder_are_those_of_its_package(loaded: Checkpoint) -> None:
    words = loaded.model.state_dict()[WORDS]
    assert torch.equal(words[:-2], weights.base_state_dict()[WORDS])


def test_the_digest_covers_layers_config_words_and_tokenizer(loaded: Checkpoint) -> None:
    assert {path.name for path in embedded.files()} == {"config.json", "model.safetensors", "tokenizer.json"}
    assert len(embedded.files()) == 4
    assert location.resolve("embedded").digest == loaded.ref.digest


def test_the_digest_changes_with_the_layers(state: dict[str, Tensor], tmp_path: Path) -> None:
    before = location.resolve("embedded").digest
    changed = tmp_path / "model.safetensors"
    weights.save_layers({**state, "logit_scale": torch.tensor(3.0)}, changed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(embedded, "WEIGHTS", changed)
        assert location.resolve("embedded").digest != before


def test_what_is_saved_is_read_again(state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.safetensors"
    weights.save_layers(state, path)
    assert path.stat().st_size == embedded.WEIGHTS.stat().st_size
    monkeypatch.setattr(embedded, "WEIGHTS", path)
    again = weights.state_dict()
    assert set(again) == set(state)
    assert all(torch.equal(again[name], weight) for name, weight in state.items())


def test_new_words_that_were_trained_are_saved_with_the_layers(
    state: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.safetensors"
    words = state[WORDS].clone()
    words[-2:] = torch.tensor([[1.0], [2.0]])
    weights.save_layers({**state, WORDS: words}, path)
    monkeypatch.setattr(embedded, "WEIGHTS", path)
    assert torch.equal(weights.state_dict()[WORDS], words)


def test_the_configuration_names_no_path_of_the_machine_that_it_was_made_on() -> None:
    assert "site-packages" not in (embedded.FOLDER / "config.json").read_text(encoding="utf-8")
    assert "_name_or_path" not in read_config(embedded.FOLDER).to_dict()["encoder_config"]
