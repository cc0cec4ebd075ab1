"""config.json of a backbone: only fields that shape an encoder reach transformers, and only sizes that are possible."""

from __future__ import annotations

import json
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import transformers
from damaged import reconfigure, refusal
from transformers import CONFIG_MAPPING
from transformers.activations import ACT2CLS
from transformers.utils.import_utils import KERNELS_MIN_VERSION

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import CheckpointError
from gliclass_spark.model import checkpoint
from gliclass_spark.model.encoders import backbone_fields
from gliclass_spark.model.encoders.backbone import read_backbone
from gliclass_spark.model.encoders.backbone_fields import BACKBONES, allowed_fields

TRANSFORMERS = Path(transformers.__file__).parent
ALLOWED = {
    *(*backbone_fields.LAYER_COUNTS, *backbone_fields.POSITION_COUNTS, *backbone_fields.SIZES),
    *(*backbone_fields.TOKEN_IDS, *backbone_fields.ACTIVATIONS, *backbone_fields.OTHER_FIELDS),
}
# Allowed fields that the code in which transformers loads, quantizes, parallelizes and attends reads, too: numbers,
# flags and names of layers.
READ_BY_LOADERS = {
    *("hidden_size", "d_model", "intermediate_size", "num_attention_heads", "vocab_size", "tie_word_embeddings"),
    *("pad_token_id", "eos_token_id", "bos_token_id", "sep_token_id", "layer_types", "use_cache", "attention_dropout"),
    *("hidden_act", "hidden_activation", "initializer_factor", "initializer_range"),
}
SETS_ATTENTION = ["attn_implementation", "_attn_implementation", "_attn_implementation_internal"]
REPOSITORY = "org/kernel@main:attend"
TOO_LARGE: list[dict[str, Any]] = [
    {"num_hidden_layers": 900},
    {"vocab_size": 10**15},
    {"hidden_size": 2**30},
    {"intermediate_size": 2**31 - 1},
    {"type_vocab_size": 10**9},
    {"max_position_embeddings": 100_000},
    {"num_hidden_layers": 900, "model_type": "deberta-v2"},
    {"num_hidden_layers": 900, "model_type": "modernbert", "max_position_embeddings": 100_000},
]


def encoder_fields(folder: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    fields: dict[str, Any] = document["encoder_config"]
    return fields


def names_in(pattern: str, *sources: str) -> set[str]:
    paths = [path for source in sources for path in sorted(TRANSFORMERS.glob(source))]
    assert paths
    return {name for path in paths for name in re.findall(pattern, path.read_text(encoding="utf-8"))}


@contextmanager
def two_gigabytes_left() -> Iterator[None]:
    """Let this process take 2 GB more of memory than it has."""
    limits = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**31, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


class TestFields:
    @pytest.mark.parametrize("model_type", sorted(BACKBONES))
    def test_of_all_fields_of_a_backbone_only_allowed_ones_are_read(self, model_type: str) -> None:
        """Every field of its class, and every key that its base class takes, with a value that no default has."""
        config_class = CONFIG_MAPPING[model_type]
        own = {field.name for field in fields(config_class)} | set(config_class.attribute_map)
        # Including those that only `__post_init__` or the models read.
        extra = names_in(r"kwargs\.(?:pop|get)\(\s*[\"'](\w+)[\"']", "configuration_utils.py", "modeling_rope_utils.py")
        module = config_class.__module__.split(".")[2]
        read = names_in(r"config, [\"'](\w+)[\"']|config\.(\w+)", f"models/{module}/modeling_*.py")
        names = own | extra | {name for pair in read for name in pair if name}
        assert {"attn_implementation", "num_labels", "dtype", "hidden_size"} <= names
        marker = "org/marker"
        assert allowed_fields(dict.fromkeys(names - ALLOWED, marker), "c") == {}
        config = read_backbone({"c": {"model_type": model_type, **dict.fromkeys(names - ALLOWED, marker)}}, "c")
        assert marker not in repr(vars(config))

    def test_none_of_them_is_a_key_by_which_transformers_loads_code_or_weights(self) -> None:
        loaders = (
            "modeling_utils.py",
            "integrations/*.py",
            "quantizers/*.py",
            "models/auto/*.py",
            "core_model_loading.py",
        )
        pairs = names_in(r"config\.(\w+)|config, [\"'](\w+)[\"']", *loaders)
        read = {name for pair in pairs for name in pair if name}
        assert {"_attn_implementation", "quantization_config", "auto_map"} <= read
        assert read & ALLOWED <= READ_BY_LOADERS

    def test_activations_are_those_of_transformers_that_import_nothing(self) -> None:
        assert set(ACT2CLS) - {"xielu"} == backbone_fields._ACTIVATION_NAMES

    @pytest.mark.parametrize("field", [*sorted(backbone_fields.ACTIVATIONS), "feed_forward_proj"])
    @pytest.mark.parametrize("value", ["xielu", "__import__('os').system('id')", ["gelu"], None, 3])
    def test_another_activation_is_refused(self, field: str, value: Any) -> None:
        with pytest.raises(CheckpointError, match=rf"config.json has c\.{field}=.*; supported are gelu, "):
            allowed_fields({field: value}, "c")

    def test_nested_configurations_are_not_read(self, folder: Path) -> None:
        nested = {"model_type": "bert", "attn_implementation": "eager"}
        reconfigure(
            folder, encoder_config={**encoder_fields(folder), "text_config": nested, "per_layer_config": nested}
        )
        assert not hasattr(checkpoint.load(resolve_model(str(folder))).model.config.encoder_config, "text_config")


def test_promise_7_no_code_from_data_in_the_attention_of_an_encoder(folder: Path, tmp_path: Path) -> None:
    """A stand-in for the package `kernels` records what is fetched: nothing, until transformers itself is told to."""
    packages, fetched = tmp_path / "packages", tmp_path / "fetched"
    (packages / "kernels").mkdir(parents=True)
    (packages / "kernels" / "__init__.py").write_text(
        f"__version__ = {KERNELS_MIN_VERSION!r}\n"
        "class _Any:\n"
        "    def __init__(self, *_, **__): pass\n"
        "    def __getattr__(self, name): return _Any()\n"
        "    def __call__(self, *_, **__): return _Any()\n"
        "def use_kernel_forward_from_hub(name): return lambda cls: cls\n"
        "def use_kernelized_func(*_): return lambda cls: cls\n"
        f"def get_kernel(name, **_): open({str(fetched)!r}, 'a').write(name); raise SystemExit(9)\n"
        "def __getattr__(name): return _Any\n"
    )
    info = packages / f"kernels-{KERNELS_MIN_VERSION}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: kernels\nVersion: {KERNELS_MIN_VERSION}\n")
    # Without flash-attn, transformers fetches a kernel under this name, too.
    encoder = {**encoder_fields(folder), **dict.fromkeys(SETS_ATTENTION, "flash_attention_2")}
    reconfigure(folder, encoder_config=encoder)
    code = (
        "import json, sys; from pathlib import Path\n"
        "from transformers import AutoConfig, AutoModel\n"
        "from gliclass_spark.checkpoints.uri import resolve_model\n"
        "from gliclass_spark.model import checkpoint\n"
        "from gliclass_spark.model.configuration import parse_config\n"
        "folder = Path(sys.argv[1]); checkpoint.load(resolve_model(str(folder)))\n"
        "document = json.loads((folder / 'config.json').read_text())\n"
        f"document['encoder_config'] |= dict.fromkeys({SETS_ATTENTION}, {REPOSITORY!r})\n"
        # Past the check of the files, as if a new version had another key for it.
        "checkpoint.build_model(parse_config(document)); print('built', flush=True)\n"
        "bert = AutoConfig.for_model('bert', num_hidden_layers=1, attn_implementation='kernels-community/attend')\n"
        "AutoModel.from_config(bert)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(packages)}
    command = [sys.executable, "-c", code, str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("built\n", 9), done.stderr
    assert fetched.read_text() == "kernels-community/attend"


class TestSizes:
    """A configuration that asks for more than the weights hold is refused at once, before it is built."""

    @pytest.mark.parametrize("value", [1001, 10**9, 10**400, 1e308, -(10**9)])
    @pytest.mark.parametrize("field", sorted(backbone_fields.LAYER_COUNTS))
    def test_more_layers_than_any_encoder_has_are_refused(self, field: str, value: float) -> None:
        with pytest.raises(
            CheckpointError, match=rf"config.json has c\.{field}=\S+, at most 1000 is supported; fix it"
        ):
            allowed_fields({field: value}, "c")

    @pytest.mark.parametrize("field", sorted(backbone_fields.POSITION_COUNTS))
    def test_more_positions_than_any_encoder_has_are_refused(self, field: str) -> None:
        with pytest.raises(CheckpointError, match=rf"c\.{field}=3000000000, at most 131072 is supported"):
            allowed_fields({field: 3 * 10**9}, "c")

    def test_a_model_larger_than_its_weights_is_refused_without_its_memory(self, folder: Path) -> None:
        """With 2 GB more than what this process has."""
        checkpoint.load(resolve_model(str(folder)))
        fields = encoder_fields(folder)
        accepted = []
        with two_gigabytes_left():
            for changes in TOO_LARGE:
                reconfigure(folder, encoder_config={**fields, **changes})
                message = refusal(folder)
                if "config.json" not in message or "allocate" in message:
                    accepted.append((changes, message))
        assert accepted == []

    @pytest.mark.parametrize("key", ["hidden_size", "scorer_mlp_hidden_size", "calibrator_hidden_size"])
    def test_a_head_larger_than_its_weights_is_refused(self, folder: Path, key: str) -> None:
        reconfigure(folder, scorer_type="mlp", use_calibrator=True, **{key: 2**40})
        assert "config.json" in refusal(folder)

    def test_the_vocabulary_that_an_encoder_is_resized_from_takes_no_memory(self, folder: Path) -> None:
        reconfigure(folder, encoder_config={**encoder_fields(folder), "vocab_size": 2**31 - 1})
        checkpoint.load(resolve_model(str(folder)))
        reconfigure(folder, vocab_size=2**31 - 1)
        assert "do not fit its config.json" in refusal(folder)

    def test_more_label_slots_than_any_model_has_are_refused(self, folder: Path) -> None:
        reconfigure(folder, scorer_type="hopfield", max_labels_alloc=10**9)
        assert refusal(folder) == (
            "config.json has 1000000000 slots for labels, at most 1000 are supported; fix max_num_classes and "
            "max_labels_alloc"
        )

    def test_a_division_by_a_zero_of_the_file_is_refused(self, folder: Path) -> None:
        reconfigure(folder, encoder_config={"model_type": "modernbert", "global_attn_every_n_layers": 0})
        assert "describes no model that can be built" in refusal(folder)
