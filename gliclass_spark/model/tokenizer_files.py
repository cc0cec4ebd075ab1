"""Tokenizers of a checkpoint, read from their files.

transformers' own `from_pretrained` hands every key of tokenizer_config.json to the tokenizer, among them names of other
files to read. Here the tokens, and what is said about their sides and lengths, are taken from it, and nothing else.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from gliclass_spark.checkpoints.files import has_file
from gliclass_spark.errors import CheckpointError

_TOKENIZER, _SETTINGS = "tokenizer.json", "tokenizer_config.json"
_SPECIAL_TOKENS, _ADDED_TOKENS = "special_tokens_map.json", "added_tokens.json"  # of older checkpoints
_SETTING_NAMES = (
    *("model_max_length", "padding_side", "truncation_side", "split_special_tokens", "clean_up_tokenization_spaces"),
    # Kept for libraries that load the checkpoint once it is saved again.
    *("model_input_names", "do_lower_case", "strip_accents", "tokenize_chinese_chars", "add_prefix_space"),
)
_TOKEN_LISTS = ("extra_special_tokens", "additional_special_tokens")


def read_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Return the fast tokenizer in a folder. Raises CheckpointError if there is none, or none that can be read."""
    if not has_file(folder, _TOKENIZER):
        raise CheckpointError(f"{folder} holds no {_TOKENIZER}; save the checkpoint with its fast tokenizer")
    try:
        return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
            tokenizer_file=str(folder / _TOKENIZER),
            # Known to be local, or transformers would look the name up on the hub.
            name_or_path=str(folder),
            is_local=True,
            local_files_only=True,
            **_settings(folder),
        )
    except CheckpointError:
        raise
    except Exception as error:  # the tokenizers library raises plain Exception for an invalid file
        raise CheckpointError(f"{folder} holds no tokenizer that can be read: {' '.join(str(error).split())}") from None


def _settings(folder: Path) -> dict[str, Any]:
    document = _read(folder, _SETTINGS)
    if "added_tokens_decoder" in document:
        added = {int(index): _token(token) for index, token in document["added_tokens_decoder"].items()}
    else:
        document |= _read(folder, _SPECIAL_TOKENS)
        special = {_content(value) for key, value in document.items() if key.endswith("_token")}
        added = {
            index: AddedToken(token, normalized=token not in special, special=token in special)
            for token, index in _read(folder, _ADDED_TOKENS).items()
        }
    by_content = {token.content: token for token in added.values()}
    settings: dict[str, Any] = {name: document[name] for name in _SETTING_NAMES if document.get(name) is not None}
    for name, value in document.items():
        if name.endswith("_token") and isinstance(value, (str, dict)):
            settings[name] = by_content.get(_content(value)) or _token(value)
        elif name in _TOKEN_LISTS and value:
            tokens = value.items() if isinstance(value, dict) else enumerate(value)
            named = {key: _token(token) for key, token in tokens}
            settings["extra_special_tokens"] = named if isinstance(value, dict) else list(named.values())
    return {**settings, "added_tokens_decoder": added}


def _read(folder: Path, name: str) -> dict[str, Any]:
    if not has_file(folder, name):
        return {}
    document: dict[str, Any] = dict(json.loads((folder / name).read_text(encoding="utf-8")))
    return document


def _token(value: Any) -> Any:
    """Return a token as the tokenizer takes it: a string, or an AddedToken for an object with its properties."""
    if not isinstance(value, dict):
        return str(value)
    properties = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return AddedToken(value["content"], **{name: bool(value[name]) for name in properties if name in value})


def _content(value: Any) -> str:
    return str(value.get("content")) if isinstance(value, dict) else str(value)
