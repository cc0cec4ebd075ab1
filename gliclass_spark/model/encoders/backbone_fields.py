"""Fields of a backbone's configuration that a checkpoint may set, and how large they may be.

All others stay at their defaults. Some would make transformers fetch and import code (`attn_implementation`), compile
the model, or allocate by a number of the file (`num_labels`); and a new version may add more.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gliclass_spark.errors import CheckpointError


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Backbones that the architectures are built over. Some others fetch kernels from the hub when they are built.
BACKBONES = _words("""
    albert bart bert camembert deberta deberta-v2 distilbert electra modernbert mpnet mt5 roberta t5 umt5 xlm-roberta
    xlm-roberta-xl
    """)
LAYER_COUNTS = _words("""
    num_hidden_layers num_hidden_groups inner_group_num n_layers num_layers num_decoder_layers encoder_layers
    decoder_layers
    """)
POSITION_COUNTS = _words("max_position_embeddings n_positions max_relative_positions position_buckets local_attention")
SIZES = _words("""
    vocab_size type_vocab_size hidden_size intermediate_size embedding_size dim hidden_dim d_model d_kv d_ff
    pooler_hidden_size encoder_ffn_dim decoder_ffn_dim num_attention_heads n_heads num_heads encoder_attention_heads
    decoder_attention_heads attention_head_size relative_attention_num_buckets relative_attention_max_distance
    conv_kernel_size conv_groups global_attn_every_n_layers
    """)
TOKEN_IDS = _words("pad_token_id bos_token_id eos_token_id cls_token_id sep_token_id decoder_start_token_id")
ACTIVATIONS = _words("hidden_act hidden_activation activation activation_function pooler_hidden_act conv_act")
OTHER_FIELDS = _words("""
    activation_dropout attention_dropout attention_probs_dropout_prob decoder_layerdrop dropout dropout_rate
    embedding_dropout encoder_layerdrop hidden_dropout_prob mlp_dropout pooler_dropout
    initializer_factor initializer_range layer_norm_eps layer_norm_epsilon norm_eps
    add_cross_attention attention_bias is_decoder is_encoder_decoder legacy mlp_bias norm_bias position_biased_input
    relative_attention scale_embedding share_att_key talking_head tie_word_embeddings use_cache
    feed_forward_proj layer_types norm_rel_ebd pos_att_type position_embedding_type
    global_rope_theta local_rope_theta rope_parameters rope_scaling rope_theta
    """)
_ALLOWED = LAYER_COUNTS | POSITION_COUNTS | SIZES | TOKEN_IDS | ACTIVATIONS | OTHER_FIELDS
# Functions of torch and transformers alone. Another name may be that of a package which transformers would import.
_ACTIVATION_NAMES = _words("""
    gelu gelu_10 gelu_accurate gelu_fast gelu_new gelu_python gelu_python_tanh gelu_pytorch_tanh hardswish laplace
    leaky_relu linear mish prelu quick_gelu relu relu2 relu6 sigmoid silu sqrtsoftplus
    swish tanh
    """)
# Far above every published encoder. A number within them may still not fit the weights, which is checked before a model
# of that size is allocated; these limits keep that check itself fast.
_MAX_LAYERS = 1_000
_MAX_POSITIONS = 2**17
_MAX_SIZE = 2**31 - 1


def allowed_fields(document: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the fields of a backbone's part of config.json that it may set. key: the part, for messages.

    Raises CheckpointError for a value that no encoder has.
    """
    fields = {name: value for name, value in document.items() if name in _ALLOWED}
    for name, value in fields.items():
        limit = _MAX_LAYERS if name in LAYER_COUNTS else _MAX_POSITIONS if name in POSITION_COUNTS else _MAX_SIZE
        if name not in OTHER_FIELDS and isinstance(value, (int, float)) and not -limit <= value <= limit:
            raise CheckpointError(
                f"config.json has {key}.{name}={str(value)[:20]}, at most {limit} is supported; fix it"
            )
        if name in ACTIVATIONS:
            check_activation(f"{key}.{name}", value)
        if name == "feed_forward_proj":
            check_activation(f"{key}.{name}", str(value).removeprefix("gated-"))
    return fields


def check_activation(name: str, value: Any) -> None:
    """Raise CheckpointError unless the value is the name of an activation function."""
    if not isinstance(value, str) or value not in _ACTIVATION_NAMES:
        raise CheckpointError(
            f"config.json has {name}={str(value)[:80]!r}; supported are {', '.join(sorted(_ACTIVATION_NAMES))}"
        )
