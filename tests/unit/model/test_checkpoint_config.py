"""config.json: what is not supported is refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from damaged import MISSING, reconfigure, refusal
from reference_cells import SPACES
from reference_models import Reference, build

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.model import checkpoint
from gliclass_spark.model.configuration import UniEncoderConfig, parse_config, read_config


def test_a_folder_without_config_is_refused(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert refusal(folder) == f"{folder} holds no config.json; give the folder of a GLiClass checkpoint"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]", b"3", b'"text"', b"null"])
def test_a_config_that_is_no_json_object_is_refused_with_its_path(content: bytes, folder: Path) -> None:
    (folder / "config.json").write_bytes(content)
    message = refusal(folder)
    assert message.startswith(f"{folder / 'config.json'} is not ")
    assert message.endswith("; fetch the checkpoint again")


@pytest.mark.parametrize("model_type", ["bert", "", None, MISSING])
def test_a_model_that_is_no_gliclass_is_refused(model_type: Any, folder: Path) -> None:
    reconfigure(folder, model_type=model_type)
    value = None if model_type is MISSING else model_type
    assert refusal(folder) == (f"config.json has model_type {value!r}, expected 'GLiClass': give a GLiClass checkpoint")


@pytest.mark.parametrize("name", ["decoder-kv", "no-such-encoder"])
def test_another_architecture_is_refused_by_name(name: str, folder: Path) -> None:
    reconfigure(folder, architecture_type=name)
    assert refusal(folder) == (
        f"architecture_type {name!r} is not supported; use a 'uni-encoder' or 'bi-encoder' or 'bi-encoder-fused' "
        "or 'encoder-decoder' or 'encoder-decoder-cls' or 'label-cached' checkpoint"
    )


@pytest.mark.parametrize("name", ["bi-encoder", "bi-encoder-fused"])
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"pooling_strategy": "pass"}, "pooling_strategy 'pass' gives no vector, which a {!r} needs"),
        ({"scorer_type": "cross-attn"}, "scorer_type 'cross-attn' takes every token, of which a {!r} gives one"),
        ({"label_model_config": {"model_type": "bart"}}, "has no encoder that can be built alone"),
        ({"label_model_config": {"model_type": "llama"}}, "label_model_config.model_type 'llama' is a decoder"),
        ({"label_model_config": {"model_type": "x"}}, "label_model_config.model_type 'x' is not a backbone"),
    ],
    ids=str,
)
def test_a_bi_encoder_that_cannot_score_is_refused_with_the_reason(
    name: str, changes: dict[str, Any], reason: str, folder: Path
) -> None:
    reconfigure(folder, architecture_type=name, **changes)
    assert reason.format(name) in refusal(folder)


@pytest.mark.parametrize("name", ["encoder-decoder", "encoder-decoder-cls"])
def test_an_encoder_without_a_decoder_is_refused(name: str, folder: Path) -> None:
    reconfigure(folder, architecture_type=name)
    assert f"encoder_config.model_type 'bert' has no decoder, which a {name!r} needs" in refusal(folder)


def test_a_scorer_over_tokens_is_refused_for_an_encoder_decoder_cls(tied: Path) -> None:
    reconfigure(tied, architecture_type="encoder-decoder-cls", scorer_type="cross-attn")
    assert refusal(tied).startswith("scorer_type 'cross-attn' takes every token, of which a 'encoder-decoder-cls'")


@pytest.mark.parametrize(
    ("key", "value"),
    [("squeeze_layers", True), ("multimodal", True), ("use_embedding_projection", True), ("recurrent_steps", 3)],
)
def test_an_option_that_would_change_the_scores_is_refused_by_name(key: str, value: Any, folder: Path) -> None:
    reconfigure(folder, **{key: value})
    message = refusal(folder)
    assert message.startswith(f"config.json has {key}={value!r}, which is not supported; ")


@pytest.mark.parametrize("layer", [3, -4])
def test_a_layer_that_the_encoder_does_not_have_is_refused(layer: int, folder: Path) -> None:
    reconfigure(folder, encoder_layer_id=layer)
    assert refusal(folder) == f"config.json has encoder_layer_id={layer}, its encoder 2 layers"


@pytest.mark.parametrize("model_type", ["llama", "mistral", "gemma", "qwen2"])
def test_a_decoder_whose_weights_were_trained_under_a_patch_is_refused_by_name(model_type: str, folder: Path) -> None:
    reconfigure(folder, encoder_config={"model_type": model_type})
    assert refusal(folder) == (
        f"encoder_config.model_type {model_type!r} is a decoder, which is not supported; "
        "use a checkpoint over an encoder"
    )


def test_an_encoder_that_cannot_be_built_alone_is_refused_by_name(folder: Path) -> None:
    reconfigure(folder, encoder_config={"model_type": "bart"})
    assert refusal(folder) == (
        "model_type 'bart' has no encoder that can be built alone; use a checkpoint over an encoder"
    )


@pytest.mark.parametrize("changes", [{"scorer_type": "mlp"}, {"use_lstm": True}], ids=str)
def test_a_width_that_the_encoder_does_not_have_is_refused_with_both(changes: dict[str, Any], folder: Path) -> None:
    reconfigure(folder, hidden_size=64, **changes)
    assert refusal(folder).endswith("a hidden_size of 64, its encoder 32")


def test_a_calibrator_of_a_text_that_is_not_pooled_is_refused(folder: Path) -> None:
    reconfigure(folder, use_calibrator=True, pooling_strategy="pass", scorer_type="cross-attn", scorer_num_heads=4)
    assert refusal(folder).startswith("a calibrator takes one pooled vector")


def test_an_option_that_no_score_depends_on_is_ignored(folder: Path) -> None:
    reconfigure(folder, layer_wise=True, focal_loss_gamma=7, something_new=[1])
    checkpoint.load(resolve_model(str(folder)))


@pytest.mark.parametrize(
    ("key", "allowed"),
    [
        ("pooling_strategy", "abs_avg, abs_max, avg, first, last, max, pass, rms, sum"),
        ("scorer_type", "cross-attn, hopfield, mlp, simple, weighted-dot"),
        ("class_token_pooling", "average, first"),
    ],
)
def test_an_unknown_head_is_refused_with_the_supported_ones(key: str, allowed: str, folder: Path) -> None:
    reconfigure(folder, **{key: "other"})
    assert refusal(folder) == f"config.json has {key}='other'; supported are {allowed}"


@pytest.mark.parametrize(("pooling", "scorer"), [("pass", "mlp"), ("avg", "cross-attn")])
def test_a_scorer_that_does_not_match_the_pooling_is_refused(pooling: str, scorer: str, folder: Path) -> None:
    reconfigure(folder, pooling_strategy=pooling, scorer_type=scorer)
    assert f"pooling_strategy {pooling!r} does not go with scorer_type {scorer!r}" in refusal(folder)


def test_an_unknown_backbone_is_refused_by_name(folder: Path) -> None:
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
def test_a_config_that_no_model_can_be_built_from_is_refused(changes: dict[str, Any], folder: Path) -> None:
    reconfigure(folder, **changes)
    assert "config.json" in refusal(folder)


@pytest.mark.parametrize("name", SPACES)
def test_a_config_of_every_architecture_survives_a_round_trip(name: str) -> None:
    model = build("t5" if name.startswith("encoder-decoder") else "bert", architecture_type=name).twin()
    parsed = parse_config(json.loads(json.dumps(model.config.to_dict())))
    assert parsed.to_dict() == model.config.to_dict()
    assert type(parsed) is type(model.config)


def test_missing_keys_have_the_published_defaults() -> None:
    config = UniEncoderConfig.from_dict({"model_type": "GLiClass"})
    assert config.encoder_config.model_type == "deberta-v2"
    assert config.vocab_size == config.encoder_config.vocab_size
    assert (config.class_token_index, config.text_token_index) == (config.vocab_size, config.vocab_size + 1)
    assert (config.pooling_strategy, config.scorer_type, config.prompt_first) == ("first", "simple", False)


def test_a_config_file_survives_a_round_trip(reference: Callable[..., Reference]) -> None:
    folder = reference("modernbert", pooling_strategy="avg", scorer_type="mlp", use_segment_embeddings=True).folder
    config = read_config(folder)
    parsed = UniEncoderConfig.from_dict(json.loads(json.dumps(config.to_dict())))
    assert parsed.encoder_config.to_dict() == config.encoder_config.to_dict()
    assert vars(parsed) == {**vars(config), "encoder_config": parsed.encoder_config}
