"""A checkpoint is identified to the byte, loaded to the last weight, and refused with its reason otherwise."""

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
from huggingface_hub import constants
from reference_models import Reference
from safetensors.torch import load_file, save_file

from gliclass_spark.errors import CheckpointError, ModelNotFoundError
from gliclass_spark.model import checkpoint, location
from gliclass_spark.model.configuration import GLiClassConfig, read_config

MISSING = object()


def reconfigure(folder: Path, **changes: Any) -> None:
    """Change config.json; MISSING removes a key."""
    path = folder / "config.json"
    document = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(
        json.dumps({key: value for key, value in document.items() if value is not MISSING}), encoding="utf-8"
    )


def reweigh(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    """Change the weights of model.safetensors."""
    state = {name: weight.clone() for name, weight in load_file(folder / checkpoint.WEIGHTS).items()}
    change(state)
    save_file(state, folder / checkpoint.WEIGHTS)


def refusal(folder: Path, *, of: type[Exception] = CheckpointError) -> str:
    """The one line that a user reads."""
    with pytest.raises(of) as refused:
        checkpoint.load(location.resolve(str(folder)))
    return str(refused.value)


def digest(folder: Path) -> str:
    return location.resolve(str(folder)).digest


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
    @pytest.mark.parametrize("place", [0, 0.5, 1], ids=["first byte", "middle byte", "last byte"])
    def test_every_byte_counts(self, name: str, place: float, folder: Path) -> None:
        before = digest(folder)
        content = bytearray((folder / name).read_bytes())
        content[int(place * (len(content) - 1))] ^= 1
        (folder / name).write_bytes(content)
        assert digest(folder) != before

    @pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
    def test_a_file_that_is_gone_counts(self, name: str, folder: Path) -> None:
        before = digest(folder)
        (folder / name).unlink()
        assert digest(folder) != before

    @pytest.mark.parametrize("name", ["added_tokens.json", "special_tokens_map.json", "vocab.txt", "spm.model"])
    def test_whatever_else_a_tokenizer_reads_counts(self, name: str, folder: Path) -> None:
        before = digest(folder)
        (folder / name).write_text('{"hello": 1}', encoding="utf-8")
        assert digest(folder) != before

    def test_content_that_moves_to_another_file_counts(self, folder: Path) -> None:
        (folder / "vocab.txt").write_text("x", encoding="utf-8")
        before = digest(folder)
        (folder / "vocab.txt").rename(folder / "spm.model")
        assert digest(folder) != before

    def test_files_that_no_score_depends_on_do_not_count(self, folder: Path) -> None:
        before = digest(folder)
        (folder / "README.md").write_text("read me", encoding="utf-8")
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps({}))
        assert digest(folder) == before


class TestAddress:
    """What an address can be, and what is told when nothing is there."""

    def test_a_folder_is_found_under_its_path(self, folder: Path) -> None:
        ref = location.resolve(str(folder))
        assert (ref.uri, ref.folder) == (str(folder), folder)

    @pytest.mark.parametrize(
        "uri",
        ["/no/such/folder", "no-such/model", "not a hub id", "a/b/c", "", "~nobody-here/model", "x\0y", "-", "../x"],
    )
    def test_an_address_where_nothing_is_says_so_and_what_to_do(
        self, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with pytest.raises(ModelNotFoundError) as refused:
            location.resolve(uri)
        assert repr(uri) in str(refused.value)
        assert 'use "embedded"' in str(refused.value)
        assert "\n" not in str(refused.value)

    def test_a_hub_that_cannot_be_reached_is_told_as_such(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
        with pytest.raises(ModelNotFoundError, match="'some/model' is not a folder, and the hub does not give it"):
            location.resolve("some/model")

    def test_a_file_is_no_checkpoint(self, folder: Path) -> None:
        with pytest.raises(ModelNotFoundError):
            location.resolve(str(folder / checkpoint.WEIGHTS))


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

    def test_pickled_weights_beside_safe_ones_are_not_read(self, folder: Path, tmp_path: Path) -> None:
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
        checkpoint.load(location.resolve(str(folder)))
        assert not (tmp_path / "sprung").exists()

    def test_a_tokenizer_that_brings_code_is_read_without_it(self, folder: Path, tmp_path: Path) -> None:
        expected = checkpoint.load(location.resolve(str(folder))).tokenizer("deep water").input_ids
        write_code(folder, tmp_path / "sprung")
        path = folder / "tokenizer_config.json"
        document = json.loads(path.read_text(encoding="utf-8"))
        document.update(tokenizer_class="Trap", auto_map={"AutoTokenizer": ["trap.Trap", "trap.Trap"]})
        path.write_text(json.dumps(document), encoding="utf-8")
        assert checkpoint.load(location.resolve(str(folder))).tokenizer("deep water").input_ids == expected
        assert not (tmp_path / "sprung").exists()

    def test_a_backbone_that_brings_code_is_built_without_it(self, folder: Path, tmp_path: Path) -> None:
        write_code(folder, tmp_path / "sprung")
        code = {"AutoConfig": "trap.Trap", "AutoModel": "trap.Trap"}
        document = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        reconfigure(folder, auto_map=code, encoder_config={**document["encoder_config"], "auto_map": code})
        loaded = checkpoint.load(location.resolve(str(folder)))
        assert type(loaded.model.encoder_model).__module__.startswith("transformers.")
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


class TestWeights:
    """Every weight of the file is used, and every weight of the model is in the file."""

    def test_the_model_comes_ready_to_score(self, folder: Path) -> None:
        model = checkpoint.load(location.resolve(str(folder))).model
        assert not model.training
        assert {(weight.dtype, weight.device.type) for weight in model.state_dict().values()} == {
            (torch.float32, "cpu")
        }

    def test_the_weights_are_those_of_the_file(self, folder: Path) -> None:
        model = checkpoint.load(location.resolve(str(folder))).model
        stored = load_file(folder / checkpoint.WEIGHTS)
        assert {f"model.{name}" for name in model.state_dict()} == set(stored)
        assert all(torch.equal(weight, stored[f"model.{name}"]) for name, weight in model.state_dict().items())

    def test_half_precision_weights_are_read_as_float32(self, folder: Path) -> None:
        reweigh(folder, lambda state: state.update({name: weight.bfloat16() for name, weight in state.items()}))
        model = checkpoint.load(location.resolve(str(folder))).model
        assert {weight.dtype for weight in model.state_dict().values()} == {torch.float32}

    def test_the_position_buffers_of_old_files_are_left_out(self, folder: Path) -> None:
        name = "model.encoder_model.embeddings.position_ids"
        reweigh(folder, lambda state: state.update({name: torch.arange(512)}))
        checkpoint.load(location.resolve(str(folder)))

    def test_missing_extra_and_misshapen_weights_are_listed(self, folder: Path) -> None:
        def damage(state: dict[str, torch.Tensor]) -> None:
            del state["model.logit_scale"]
            state["model.lstm.weight"] = torch.zeros(1)
            state["model.text_projector.linear_1.bias"] = torch.zeros(5)

        reweigh(folder, damage)
        assert refusal(folder) == (
            f"the weights of {str(folder)!r} do not fit its config.json: 3 differ: missing logit_scale; "
            "text_projector.linear_1.bias is (5,), expected (32,); unused lstm.weight"
        )

    def test_a_long_list_of_differences_is_cut_but_counted(self, folder: Path) -> None:
        reweigh(folder, lambda state: state.update({f"x{number}": torch.zeros(1) for number in range(100)}))
        message = refusal(folder)
        assert "100 differ" in message
        assert message.count("unused") == 8

    @pytest.mark.parametrize("keep", [0, 7, 100, 1_000_000], ids=["empty", "no header", "half a header", "no end"])
    def test_a_file_that_was_cut_short_is_called_damaged(self, keep: int, folder: Path) -> None:
        content = (folder / checkpoint.WEIGHTS).read_bytes()
        (folder / checkpoint.WEIGHTS).write_bytes(content[:keep])
        message = refusal(folder)
        assert f"{folder / checkpoint.WEIGHTS} is damaged (" in message
        assert message.endswith("fetch the checkpoint again")

    def test_a_folder_without_weights_is_refused(self, folder: Path) -> None:
        (folder / checkpoint.WEIGHTS).unlink()
        assert refusal(folder) == f"{folder} holds no model.safetensors; give the folder of a GLiClass checkpoint"


class TestConfig:
    """config.json says what to build; what can't be built is refused by name."""

    def test_a_folder_without_config_is_refused(self, folder: Path) -> None:
        (folder / "config.json").unlink()
        assert refusal(folder) == f"{folder} holds no config.json; give the folder of a GLiClass checkpoint"

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"3", b'"text"', b"null"])
    def test_a_config_that_is_no_json_object_is_refused_by_its_path(self, content: bytes, folder: Path) -> None:
        (folder / "config.json").write_bytes(content)
        message = refusal(folder)
        assert message.startswith(f"{folder / 'config.json'} is not ")
        assert message.endswith("; fetch the checkpoint again")

    @pytest.mark.parametrize("model_type", ["bert", "", None, MISSING])
    def test_a_model_that_is_no_gliclass_is_refused(self, model_type: Any, folder: Path) -> None:
        reconfigure(folder, model_type=model_type)
        found = None if model_type is MISSING else model_type
        assert refusal(folder) == (
            f"config.json has model_type {found!r}, expected 'GLiClass': give a GLiClass checkpoint"
        )

    @pytest.mark.parametrize("name", ["bi-encoder", "bi-encoder-fused", "encoder-decoder", "decoder-kv"])
    def test_another_architecture_is_refused_by_name(self, name: str, folder: Path) -> None:
        reconfigure(folder, architecture_type=name)
        assert (
            refusal(folder)
            == f"architecture_type {name!r} is not supported; use a 'uni-encoder' or 'label-cached' checkpoint"
        )

    @pytest.mark.parametrize(
        ("key", "value", "supported"),
        [
            ("use_lstm", True, False),
            ("squeeze_layers", True, False),
            ("use_calibrator", True, False),
            ("multimodal", True, False),
            ("encoder_layer_id", 4, -1),
        ],
    )
    def test_an_option_that_would_change_the_scores_is_refused_by_name(
        self, key: str, value: Any, supported: Any, folder: Path
    ) -> None:
        reconfigure(folder, **{key: value})
        assert refusal(folder) == f"config.json asks for {key}={value!r}, which is not supported (only {supported!r})"

    @pytest.mark.parametrize(
        ("key", "allowed"),
        [
            ("pooling_strategy", "abs_avg, abs_max, avg, first, last, max, pass, rms, sum"),
            ("scorer_type", "cross-attn, hopfield, mlp, simple, weighted-dot"),
            ("class_token_pooling", "average, first"),
        ],
    )
    def test_an_unknown_head_is_refused_with_those_that_are_known(self, key: str, allowed: str, folder: Path) -> None:
        reconfigure(folder, **{key: "other"})
        assert refusal(folder) == f"config.json asks for {key}='other'; supported are {allowed}"

    @pytest.mark.parametrize(("pooling", "scorer"), [("pass", "mlp"), ("avg", "cross-attn")])
    def test_a_scorer_that_cannot_read_what_the_pooling_gives_is_refused(
        self, pooling: str, scorer: str, folder: Path
    ) -> None:
        reconfigure(folder, pooling_strategy=pooling, scorer_type=scorer)
        assert f"pooling_strategy {pooling!r} does not go with scorer_type {scorer!r}" in refusal(folder)

    def test_an_unknown_backbone_is_refused_by_name(self, folder: Path) -> None:
        reconfigure(folder, encoder_config={"model_type": "no-such-bert"})
        assert refusal(folder).startswith("encoder_config.model_type 'no-such-bert' is not a backbone that")

    @pytest.mark.parametrize(
        "changes",
        [
            {"projector_hidden_act": "no-such-function"},
            {"pooling_strategy": "pass", "scorer_type": "cross-attn", "scorer_num_heads": 5},
            {"encoder_config": {"model_type": "bert", "hidden_size": 33, "num_attention_heads": 4}},
            {"encoder_config": {"model_type": "bert", "hidden_size": "wide"}},
            {"encoder_config": "bert"},
            {"hidden_size": "wide"},
            {"hidden_size": -1},
            {"class_token_index": "first"},
            {"dropout": 7},
        ],
        ids=str,
    )
    def test_a_config_that_no_model_can_be_built_from_is_refused(self, changes: dict[str, Any], folder: Path) -> None:
        reconfigure(folder, **changes)
        assert "config.json" in refusal(folder)

    def test_what_a_published_config_leaves_out_has_the_published_default(self) -> None:
        config = GLiClassConfig.from_dict({"model_type": "GLiClass"})
        assert config.encoder_config.model_type == "deberta-v2"
        assert config.vocab_size == config.encoder_config.vocab_size
        assert (config.class_token_index, config.text_token_index) == (config.vocab_size, config.vocab_size + 1)
        assert (config.pooling_strategy, config.scorer_type, config.prompt_first) == ("first", "simple", False)

    def test_a_config_written_by_us_reads_as_the_same_config(self, reference: Callable[..., Reference]) -> None:
        folder = reference("modernbert", pooling_strategy="avg", scorer_type="mlp", use_segment_embeddings=True).folder
        config = read_config(folder)
        again = GLiClassConfig.from_dict(json.loads(json.dumps(config.to_dict())))
        assert again.encoder_config.to_dict() == config.encoder_config.to_dict()
        assert vars(again) == {**vars(config), "encoder_config": again.encoder_config}


class TestTokenizer:
    """A tokenizer of another model would ask another question."""

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


def test_what_is_saved_is_what_was_loaded(folder: Path, tmp_path: Path) -> None:
    loaded = checkpoint.load(location.resolve(str(folder)))
    saved = checkpoint.save(loaded.model, loaded.tokenizer, tmp_path / "new" / "folder")
    assert digest(checkpoint.save(loaded.model, loaded.tokenizer, tmp_path / "once more")) == digest(saved)
    again = checkpoint.load(location.resolve(str(saved)))
    state = loaded.model.state_dict()
    assert set(again.model.state_dict()) == set(state)
    assert all(torch.equal(weight, state[name]) for name, weight in again.model.state_dict().items())
    assert again.tokenizer("deep water").input_ids == loaded.tokenizer("deep water").input_ids
