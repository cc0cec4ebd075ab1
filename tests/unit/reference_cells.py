"""The matrix of configurations in which the models are compared with the reference library's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations, product
from random import Random
from typing import Any

_SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
BACKBONES: dict[str, dict[str, Any]] = {
    "bert": _SMALL,
    "deberta-v2": {
        **_SMALL,
        "relative_attention": True,
        "position_buckets": 16,
        "pos_att_type": ["p2c", "c2p"],
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
    },
    # Two layers, one of global and one of local attention.
    "modernbert": {
        **_SMALL,
        "global_attn_every_n_layers": 2,
        "local_attention": 16,
        "cls_token_id": 101,
        "sep_token_id": 102,
        "bos_token_id": 101,
        "eos_token_id": 102,
    },
}
# Counts its positions from behind the padding token's: a window of 512 takes 514.
ROBERTA = {**_SMALL, "max_position_embeddings": 514, "pad_token_id": 1}
_T5 = {
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "pad_token_id": 0,
    "eos_token_id": 102,
    "decoder_start_token_id": 0,
}
OTHER_ENCODERS: dict[str, dict[str, Any]] = {
    "roberta": ROBERTA,
    "xlm-roberta": ROBERTA,
    "electra": {**_SMALL, "embedding_size": 32},
    "albert": {**_SMALL, "embedding_size": 32},
    "distilbert": {
        "dim": 32,
        "n_layers": 2,
        "n_heads": 4,
        "hidden_dim": 64,
        "max_position_embeddings": 512,
        "pad_token_id": 0,
    },
}
BART = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 101,
    "eos_token_id": 102,
    "decoder_start_token_id": 102,
}
T5S: dict[str, dict[str, Any]] = {"t5": _T5, "mt5": {**_T5, "feed_forward_proj": "gated-gelu"}, "umt5": _T5}
ENCODERS = {**BACKBONES, **OTHER_ENCODERS, **T5S}
ENCODER_DECODERS = {**T5S, "bart": BART}

POOLED = ("first", "last", "max", "avg", "sum", "rms", "abs_max", "abs_avg")
SCORERS = ("simple", "weighted-dot", "mlp", "hopfield")
# Poolings with the scorers that go with them.
POOLED_HEADS = tuple(product(POOLED, SCORERS))
HEADS = (*POOLED_HEADS, ("pass", "cross-attn"))
CLASS_TOKEN_POOLINGS = ("first", "average")

_CALIBRATOR = {"use_calibrator": True, "calibrator_hidden_size": 24}
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "text first": {"prompt_first": False},
    "text features": {"extract_text_features": True},
    "no class token": {"embed_class_token": False},
    "segments": {"use_segment_embeddings": True},
    "normalised": {"normalize_features": True},
    "text features, no class token": {"extract_text_features": True, "embed_class_token": False},
    "all, text first": {
        "extract_text_features": True,
        "embed_class_token": False,
        "use_segment_embeddings": True,
        "normalize_features": True,
        "prompt_first": False,
    },
    "lstm": {"use_lstm": True},
    "lstm, text features": {"use_lstm": True, "extract_text_features": True},
    "calibrator": _CALIBRATOR,
    "calibrator with bias": {**_CALIBRATOR, "calibrator_use_bias": True, "calibrator_beta_max": 2.0},
    "first layer": {"encoder_layer_id": 1},
    "last layer but one, segments": {"encoder_layer_id": -2, "use_segment_embeddings": True},
    "trained on every layer": {"layer_wise": True},
    # Options of other architectures, whose weights are in the file all the same.
    "unused": {"encoder_layer_id": 1, "use_segment_embeddings": True, "max_labels_alloc": "fixed"},
    "fixed label slots": {"max_labels_alloc": "fixed", "max_num_classes": 7},
}


@dataclass(frozen=True)
class Cell:
    """One configuration of the matrix. `changes` are the fields of config.json that differ from the defaults."""

    architecture: str
    backbone: str
    pooling: str
    scorer: str
    class_token_pooling: str
    option: str

    @property
    def changes(self) -> dict[str, Any]:
        return {
            "architecture_type": self.architecture,
            "pooling_strategy": self.pooling,
            "scorer_type": self.scorer,
            "class_token_pooling": self.class_token_pooling,
            **OPTIONS[self.option],
        }

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels of one length for bi-encoders: those of the reference pad labels and don't mask the padding."""
        if self.architecture.startswith("bi-encoder"):
            return "sport", "music", "web"
        return "sport", "machine learning: models", "web"

    def __str__(self) -> str:
        return "-".join(vars(self).values())


@dataclass(frozen=True)
class Space:
    """The settings of one architecture."""

    backbones: tuple[str, ...]
    heads: tuple[tuple[str, str], ...]
    class_token_poolings: tuple[str, ...]
    options: tuple[str, ...]


_STANDALONE_ENCODERS = (*BACKBONES, *OTHER_ENCODERS)
# Options of every architecture, and of those whose labels are part of an input.
_COMMON_OPTIONS = ("plain", "normalised", "calibrator", "calibrator with bias", "unused")
_LABEL_INPUT_OPTIONS = (*_COMMON_OPTIONS, "text features", "no class token")

SPACES: dict[str, Space] = {
    "uni-encoder": Space(
        tuple(ENCODERS), HEADS, CLASS_TOKEN_POOLINGS, tuple(name for name in OPTIONS if name != "unused")
    ),
    "bi-encoder": Space(_STANDALONE_ENCODERS, POOLED_HEADS, ("first",), _COMMON_OPTIONS),
    "bi-encoder-fused": Space(_STANDALONE_ENCODERS, POOLED_HEADS, ("first",), ("text first", *_COMMON_OPTIONS)),
    "encoder-decoder": Space(tuple(ENCODER_DECODERS), HEADS, CLASS_TOKEN_POOLINGS, (*_LABEL_INPUT_OPTIONS, "lstm")),
    "encoder-decoder-cls": Space(
        tuple(ENCODER_DECODERS), tuple(product(("first",), SCORERS)), CLASS_TOKEN_POOLINGS, _LABEL_INPUT_OPTIONS
    ),
}
_BACKBONES_OF_EVERY_HEAD = ("bert", "deberta-v2", "modernbert", "t5")
_HEADS_OF_EVERY_BACKBONE = (
    ("first", "simple"),
    ("first", "mlp"),
    ("avg", "weighted-dot"),
    ("last", "hopfield"),
    ("pass", "cross-attn"),
)


def cells() -> Iterator[Cell]:
    """Yield every configuration of the matrix that the reference library can run.

    Heads do not depend on the backbone, so every head is combined with some backbones, and a few heads with all.
    """
    for architecture, space in SPACES.items():
        for backbone, (pooling, scorer), class_token_pooling, option in product(
            space.backbones, space.heads, space.class_token_poolings, space.options
        ):
            cell = Cell(architecture, backbone, pooling, scorer, class_token_pooling, option)
            if _runs(cell) and (backbone in _BACKBONES_OF_EVERY_HEAD or (pooling, scorer) in _HEADS_OF_EVERY_BACKBONE):
                yield cell


def _runs(cell: Cell) -> bool:
    if cell.pooling != "pass":
        return True
    # A calibrator takes one vector of the text; the states of the reference's LSTM are shorter than its mask.
    return not cell.changes.get("use_calibrator") and cell.option != "lstm, text features"


def sample(matrix: Iterable[Cell]) -> Iterator[Cell]:
    """Yield few cells that cover every pair of two settings of the matrix."""
    candidates = list(matrix)
    Random(0).shuffle(candidates)  # noqa: S311
    pairs = {cell: set(combinations(vars(cell).items(), 2)) for cell in candidates}
    uncovered = set().union(*pairs.values())
    while uncovered:
        best = max(candidates, key=lambda cell: len(pairs[cell] & uncovered))
        uncovered -= pairs[best]
        yield best
