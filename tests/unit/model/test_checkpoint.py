"""A checkpoint is identified by every byte and loaded with every weight, or refused with the reason."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from damaged import reconfigure, refusal, rewrite_weights
from gliclass import GLiClassModel as ReferenceModel
from huggingface_hub import constants
from reference_models import TOLERANCE, Reference, tokenizer
from safetensors.torch import load_file

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import ModelNotFoundError
from gliclass_spark.model import checkpoint


def digest(folder: Path) -> str:
    return resolve_model(str(folder)).digest


class TestDigest:
    """Equal digests, equal scores."""

    def test_it_is_64_hexadecimal_digits(self, folder: Path) -> None:
        assert len(digest(folder)) == 64
        assert set(digest(folder)) <= set("0123456789abcdef")

    def test_it_is_the_same_in_every_folder_and_process(self, folder: Path, tmp_path: Path) -> None:
        copy = shutil.copytree(folder, tmp_path / "elsewhere")
        assert digest(copy) == digest(folder)
        for path in sorted(copy.iterdir(), reverse=True):
            os.utime(path, (1, 1))
        assert digest(copy) == digest(folder)

    @pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
    @pytest.mark.parametrize("position", [0, 0.5, 1], ids=["first byte", "middle byte", "last byte"])
    def test_every_byte_changes_it(self, name: str, position: float, folder: Path) -> None:
        before = digest(folder)
        content = bytearray((folder / name).read_bytes())
        content[int(position * (len(content) - 1))] ^= 1
        (folder / name).write_bytes(content)
        assert digest(folder) != before

    @pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
    def test_a_missing_file_changes_it(self, name: str, folder: Path) -> None:
        before = digest(folder)
        (folder / name).unlink()
        assert digest(folder) != before

    @pytest.mark.parametrize("name", ["added_tokens.json", "special_tokens_map.json", "vocab.txt", "spm.model"])
    def test_other_tokenizer_files_change_it(self, name: str, folder: Path) -> None:
        before = digest(folder)
        (folder / name).write_text('{"hello": 1}', encoding="utf-8")
        assert digest(folder) != before

    def test_a_renamed_file_changes_it(self, folder: Path) -> None:
        (folder / "vocab.txt").write_text("x", encoding="utf-8")
        before = digest(folder)
        (folder / "vocab.txt").rename(folder / "spm.model")
        assert digest(folder) != before

    def test_files_that_no_score_depends_on_do_not_change_it(self, folder: Path) -> None:
        before = digest(folder)
        (folder / "README.md").write_text("read me", encoding="utf-8")
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))
        assert digest(folder) == before


class TestModelUri:
    """A model URI resolves to a folder, or is refused with a fix."""

    def test_a_path_resolves_to_its_folder(self, folder: Path) -> None:
        ref = resolve_model(str(folder))
        assert (ref.uri, ref.folder) == (str(folder), folder)

    @pytest.mark.parametrize(
        "uri",
        ["/no/such/folder", "no-such/model", "not a hub id", "a/b/c", "", "~no-such-user/model", "x\0y", "-", "../x"],
    )
    def test_a_uri_without_a_model_is_refused_with_a_fix(
        self, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ModelNotFoundError) as refused:
            resolve_model(uri)
        assert repr(uri) in str(refused.value)
        assert 'use "embedded"' in str(refused.value)
        assert "\n" not in str(refused.value)

    def test_an_unreachable_hub_is_reported_as_such(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
        with pytest.raises(ModelNotFoundError, match="'some/model' is not a folder, and not available on the hub"):
            resolve_model("some/model")

    def test_a_file_is_refused(self, folder: Path) -> None:
        with pytest.raises(ModelNotFoundError):
            resolve_model(str(folder / checkpoint.WEIGHTS))


class TestUnsafe:
    """Nothing in a checkpoint is ever run."""

    @pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt"])
    def test_pickled_weights_are_refused_unread(self, name: str, folder: Path, tmp_path: Path) -> None:
        (folder / checkpoint.WEIGHTS).unlink()
        (folder / name).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
        message = refusal(folder)
        assert f"holds {name} but no model.safetensors: pickled weights can run code and are never loaded" in message
        assert not (tmp_path / "sprung").exists()

    def test_pickled_weights_under_the_name_of_safe_ones_are_refused_unread(self, folder: Path, tmp_path: Path) -> None:
        (folder / checkpoint.WEIGHTS).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
        assert "is damaged" in refusal(folder)
        assert not (tmp_path / "sprung").exists()

    def test_pickled_weights_next_to_safetensors_are_not_read(self, folder: Path, tmp_path: Path) -> None:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
        checkpoint.load(resolve_model(str(folder)))
        assert not (tmp_path / "sprung").exists()

    def test_a_tokenizer_with_code_is_loaded_without_running_it(self, folder: Path, tmp_path: Path) -> None:
        expected = checkpoint.load(resolve_model(str(folder))).tokenizer("deep water").input_ids
        write_code(folder, tmp_path / "sprung")
        path = folder / "tokenizer_config.json"
        document = json.loads(path.read_text(encoding="utf-8"))
        document.update(tokenizer_class="Trap", auto_map={"AutoTokenizer": ["trap.Trap", "trap.Trap"]})
        path.write_text(json.dumps(document), encoding="utf-8")
        assert checkpoint.load(resolve_model(str(folder))).tokenizer("deep water").input_ids == expected
        assert not (tmp_path / "sprung").exists()

    @pytest.mark.parametrize("section", ["", "encoder_config"])
    def test_a_model_that_needs_its_own_code_is_refused_with_the_keys_name(
        self, section: str, folder: Path, tmp_path: Path
    ) -> None:
        write_code(folder, tmp_path / "sprung")
        code = {"AutoConfig": "trap.Trap", "AutoModel": "trap.Trap"}
        encoder = json.loads((folder / "config.json").read_text(encoding="utf-8"))["encoder_config"]
        reconfigure(folder, **({"encoder_config": {**encoder, "auto_map": code}} if section else {"auto_map": code}))
        assert refusal(folder) == (
            f"config.json of {folder} needs code of its own ({section}{'.' if section else ''}auto_map), but code from "
            "a checkpoint is never run; use a checkpoint whose encoder is part of transformers"
        )
        assert not (tmp_path / "sprung").exists()


class Trap:
    """Unpickling it leaves a file behind."""

    def __init__(self, witness: Path) -> None:
        self._witness = witness

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._witness,)


def write_code(folder: Path, witness: Path) -> None:
    code = f"import pathlib\npathlib.Path({str(witness)!r}).touch()\nclass Trap: pass\n"
    (folder / "trap.py").write_text(code, encoding="utf-8")


SHARED = "model.encoder_model.{}.weight"
OTHER = SHARED.format("encoder.embed_tokens")


def rename(state: dict[str, torch.Tensor], names: list[str], words: torch.Tensor) -> None:
    del state[SHARED.format("shared")]
    state.update({SHARED.format(name): words.clone() for name in names})


class TestWeights:
    """Every weight of the file is used, and every weight of the model comes from the file."""

    def test_the_model_comes_ready_to_score(self, folder: Path) -> None:
        model = checkpoint.load(resolve_model(str(folder))).model
        assert not model.training
        assert {(weight.dtype, weight.device.type) for weight in model.state_dict().values()} == {
            (torch.float32, "cpu")
        }

    def test_the_weights_are_those_of_the_file(self, folder: Path) -> None:
        model = checkpoint.load(resolve_model(str(folder))).model
        stored = load_file(folder / checkpoint.WEIGHTS)
        assert {f"model.{name}" for name in model.state_dict()} == set(stored)
        assert all(torch.equal(weight, stored[f"model.{name}"]) for name, weight in model.state_dict().items())

    def test_half_precision_weights_are_read_as_float32(self, folder: Path) -> None:
        rewrite_weights(folder, lambda state: state.update({name: weight.bfloat16() for name, weight in state.items()}))
        model = checkpoint.load(resolve_model(str(folder))).model
        assert {weight.dtype for weight in model.state_dict().values()} == {torch.float32}

    def test_the_position_buffers_of_old_files_are_ignored(self, folder: Path) -> None:
        name = "model.encoder_model.embeddings.position_ids"
        rewrite_weights(folder, lambda state: state.update({name: torch.arange(512)}))
        checkpoint.load(resolve_model(str(folder)))

    def test_missing_extra_and_misshapen_weights_are_listed(self, folder: Path) -> None:
        def damage(state: dict[str, torch.Tensor]) -> None:
            del state["model.logit_scale"]
            state["model.lstm.weight"] = torch.zeros(1)
            state["model.text_projector.linear_1.bias"] = torch.zeros(5)

        rewrite_weights(folder, damage)
        assert refusal(folder) == (
            f"the weights of {str(folder)!r} do not fit its config.json: 3 differ: missing logit_scale; "
            "text_projector.linear_1.bias is (5,), expected (32,); unused lstm.weight"
        )

    def test_a_long_list_of_differences_is_cut_but_counted(self, folder: Path) -> None:
        rewrite_weights(folder, lambda state: state.update({f"x{number}": torch.zeros(1) for number in range(100)}))
        message = refusal(folder)
        assert "100 differ" in message
        assert message.count("unused") == 8

    @pytest.mark.parametrize(
        "names", [["shared"], ["encoder.embed_tokens"], ["shared", "encoder.embed_tokens"]], ids=str
    )
    def test_a_tied_weight_may_have_any_of_its_names(self, names: list[str], tied: Path) -> None:
        words = load_file(tied / checkpoint.WEIGHTS)[SHARED.format("shared")]
        rewrite_weights(tied, lambda state: rename(state, names, words))
        encoder = checkpoint.load(resolve_model(str(tied))).model.encoder_model
        assert encoder.shared.weight is encoder.encoder.embed_tokens.weight
        assert torch.equal(encoder.shared.weight, words)

    def test_a_tied_weight_with_two_values_is_refused(self, tied: Path) -> None:
        rewrite_weights(tied, lambda state: state.update({OTHER: state[SHARED.format("shared")] + 1}))
        assert "encoder_model.encoder.embed_tokens.weight is not encoder_model.shared.weight" in refusal(tied)

    def test_a_tied_weight_is_missing_only_if_the_file_has_none_of_its_names(self, tied: Path) -> None:
        rewrite_weights(tied, lambda state: rename(state, [], torch.zeros(1)))
        assert refusal(tied).endswith("1 differ: missing encoder_model.shared.weight")

    def test_a_tied_weight_is_saved_once(self, tied: Path, tmp_path: Path) -> None:
        loaded = checkpoint.load(resolve_model(str(tied)))
        saved = checkpoint.save(loaded.model, loaded.tokenizer, tmp_path / "saved")
        stored, original = (load_file(folder / checkpoint.WEIGHTS) for folder in (saved, tied))
        assert stored.keys() == original.keys()
        assert all(torch.equal(stored[name], original[name]) for name in original)

    @pytest.mark.parametrize("keep", [0, 7, 100, 1_000_000], ids=["empty", "no header", "half a header", "no end"])
    def test_a_truncated_file_is_reported_as_damaged(self, keep: int, folder: Path) -> None:
        content = (folder / checkpoint.WEIGHTS).read_bytes()
        (folder / checkpoint.WEIGHTS).write_bytes(content[:keep])
        message = refusal(folder)
        assert f"{folder / checkpoint.WEIGHTS} is damaged (" in message
        assert message.endswith("fetch the checkpoint again")

    def test_a_folder_without_weights_is_refused(self, folder: Path) -> None:
        (folder / checkpoint.WEIGHTS).unlink()
        assert refusal(folder) == f"{folder} holds no model.safetensors; give the folder of a GLiClass checkpoint"


class TestTokenizer:
    """A tokenizer of another model is refused."""

    @pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"added_tokens": [], "model": {}}'])
    def test_a_damaged_tokenizer_is_refused(self, content: str, folder: Path) -> None:
        (folder / "tokenizer.json").write_text(content, encoding="utf-8")
        assert refusal(folder).startswith(f"{folder} holds no tokenizer that can be read: ")

    def test_a_folder_without_tokenizer_is_refused(self, folder: Path) -> None:
        (folder / "tokenizer.json").unlink()
        message = f"{folder} holds no tokenizer.json; save the checkpoint with its fast tokenizer"
        assert refusal(folder) == message

    @pytest.mark.parametrize("missing", ["<<LABEL>>", "<<SEP>>"])
    def test_a_tokenizer_without_the_models_tokens_is_refused(self, missing: str, folder: Path) -> None:
        path = folder / "tokenizer.json"
        path.write_text(path.read_text(encoding="utf-8").replace(missing, "<<OTHER>>"), encoding="utf-8")
        assert f"the tokenizer has no token {missing!r}" in refusal(folder)

    def test_a_tokenizer_whose_label_token_is_not_the_models_is_refused_with_both_ids(self, folder: Path) -> None:
        reconfigure(folder, class_token_index=30000)
        message = refusal(folder)
        assert "<<LABEL>>" in message
        assert "30000" in message
        assert "30522" in message


class TestLabelTokenizer:
    """Labels with an encoder of their own have a tokenizer of their own."""

    @pytest.fixture
    def folder(self, reference: Callable[..., Reference], tmp_path: Path) -> Path:
        original = reference(architecture_type="bi-encoder")
        return Path(shutil.copytree(original.folder, tmp_path / "bi_encoder"))

    def test_it_is_the_texts_tokenizer_if_both_encoders_have_its_vocabulary(self, folder: Path) -> None:
        loaded = checkpoint.load(resolve_model(str(folder)))
        assert loaded.label_tokenizer is loaded.tokenizer

    def test_one_in_the_folder_is_used_and_changes_the_digest(self, folder: Path) -> None:
        before = digest(folder)
        own = tokenizer()
        own.add_tokens(["thingummy"])
        own.save_pretrained(folder / "label_tokenizer")
        loaded = checkpoint.load(resolve_model(str(folder)))
        assert "thingummy" in loaded.label_tokenizer.get_vocab()
        assert "thingummy" not in loaded.tokenizer.get_vocab()
        assert digest(folder) != before

    def test_a_saved_one_is_loaded_again(self, folder: Path, tmp_path: Path) -> None:
        loaded = checkpoint.load(resolve_model(str(folder)))
        own = tokenizer()
        own.add_tokens(["thingummy"])
        saved = checkpoint.save(loaded.model, loaded.tokenizer, tmp_path / "saved", own)
        reloaded = checkpoint.load(resolve_model(str(saved)))
        assert reloaded.label_tokenizer.get_vocab() == own.get_vocab()

    def test_a_checkpoint_without_a_matching_one_is_refused_with_a_fix(self, folder: Path) -> None:
        encoder = json.loads((folder / "config.json").read_text(encoding="utf-8"))["label_model_config"]
        reconfigure(folder, label_model_config={**encoder, "vocab_size": 1000}, label_model_name="some/encoder")
        words = "model.label_encoder.embeddings.word_embeddings.weight"
        rewrite_weights(folder, lambda state: state.update({words: state[words][:1000].clone()}))
        assert refusal(folder) == (
            f"{str(folder)!r} has a label encoder of 1000 tokens, and no tokenizer for it; save that of some/encoder "
            "in the checkpoint, as its folder label_tokenizer/: "
            f"AutoTokenizer.from_pretrained(...).save_pretrained({str(folder / 'label_tokenizer')!r})"
        )


@pytest.mark.parametrize(("backbone", "name"), [("bert", "bi-encoder-fused"), ("t5", "uni-encoder")])
def test_the_reference_loads_saved_checkpoints_with_two_encoders_or_tied_weights(
    backbone: str, name: str, reference: Callable[..., Reference], tmp_path: Path
) -> None:
    original = reference(backbone, architecture_type=name, use_calibrator=True)
    loaded = checkpoint.load(resolve_model(str(original.folder)))
    saved = checkpoint.save(loaded.model, loaded.tokenizer, tmp_path / "saved")
    model, report = ReferenceModel.from_pretrained(saved, output_loading_info=True)
    # The reference reports tied names as missing for its own files, too.
    assert report == ReferenceModel.from_pretrained(original.folder, output_loading_info=True)[1]
    assert report["unexpected_keys"] == set()
    labels = ("sport", "music", "web")
    inputs = original.model_inputs("The quick brown fox", labels)
    reloaded = Reference(model.eval()).forward(inputs, len(labels))
    torch.testing.assert_close(reloaded, original.forward(inputs, len(labels)), atol=TOLERANCE, rtol=0)


def test_a_saved_checkpoint_equals_the_loaded_one(folder: Path, tmp_path: Path) -> None:
    loaded = checkpoint.load(resolve_model(str(folder)))
    saved = checkpoint.save(loaded.model, loaded.tokenizer, tmp_path / "new" / "folder")
    assert digest(checkpoint.save(loaded.model, loaded.tokenizer, tmp_path / "once more")) == digest(saved)
    reloaded = checkpoint.load(resolve_model(str(saved)))
    state = loaded.model.state_dict()
    assert set(reloaded.model.state_dict()) == set(state)
    assert all(torch.equal(weight, state[name]) for name, weight in reloaded.model.state_dict().items())
    assert reloaded.tokenizer("deep water").input_ids == loaded.tokenizer("deep water").input_ids
