"""Models of the published base size, the embedded one and the gliclass library: speed by number of labels.

    python benchmarks/base_size.py [--texts N] [--rounds R] [--threads T] [--device cuda] [--only BACKBONE] [--out DIR]

A DeBERTa-v3 and a ModernBERT of base size, but for the vocabulary (the embedded model's), with random weights: speed
does not depend on them. Texts of 200 tokens, on the CPU unless a device is named. The cross-encoder has the same
backbone and scores each pair of text and label. Writes results/base_size_DEVICE.json.
"""

from __future__ import annotations

from gliclass_spark.inference.openmp import limit_spinning

limit_spinning()

# isort: split
import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import corpus
import machine
import rounds
import torch
from gliclass import GLiClassModel as ReferenceModel  # type: ignore[import-untyped]
from gliclass import ZeroShotClassificationPipeline
from rich.console import Console
from rich.table import Table
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils import logging

from gliclass_spark.inference.device import choose_precision
from gliclass_spark.inference.engine import Engine
from gliclass_spark.labels import LabelSet
from gliclass_spark.model import checkpoint
from gliclass_spark.model.architectures.uni_encoder import UniEncoderModel
from gliclass_spark.model.configuration import UniEncoderConfig
from gliclass_spark.model.prompts.text_tokenizer import LABEL_TOKEN, SEP_TOKEN
from gliclass_spark.training.evaluation.cross_encoder import CrossEncoderClassifier
from gliclass_spark.training.from_encoder import joint_tokenizer

COUNTS = (1, 8, 32, 128)
CROSS_ENCODER_LABELS = 32
REFERENCE_BATCH_SIZE = 8  # the pipeline's default
WORDS = 150  # about 200 tokens
SEED = 0

# The sizes of microsoft/deberta-v3-base and answerdotai/ModernBERT-base, from their config.json.
BACKBONES: dict[str, dict[str, Any]] = {
    "deberta-v2": {
        "hidden_size": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "relative_attention": True,
        "position_buckets": 256,
        "max_relative_positions": -1,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_biased_input": False,
        "type_vocab_size": 0,
    },
    "modernbert": {
        "hidden_size": 768,
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
        "intermediate_size": 1152,
        "cls_token_id": 101,
        "sep_token_id": 102,
        "bos_token_id": 101,
        "eos_token_id": 102,
    },
}
HEADS = {
    "deberta-v2": {"scorer_type": "weighted-dot", "pooling_strategy": "avg"},
    "modernbert": {"scorer_type": "simple", "pooling_strategy": "first"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--only", choices=list(BACKBONES))
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    os.environ.setdefault("RAYON_NUM_THREADS", str(options.threads))  # read by the tokenizer
    words = " ".join(corpus.texts(8 * options.texts, SEED)).split()
    texts = [" ".join(words[start * WORDS : (start + 1) * WORDS]) for start in range(options.texts)]
    rows = []
    for backbone in [options.only] if options.only else BACKBONES:
        with tempfile.TemporaryDirectory() as folder:
            rows += measure(backbone, Path(folder), texts, options.rounds, options.device)
    result = {
        "machine": {**machine.describe(), **gpu(options.device)},
        "threads": options.threads,
        "rounds": options.rounds,
        "texts": {"count": len(texts), "words": WORDS, "digest": corpus.digest(texts)},
        "rows": rows,
    }
    show(result, Console(width=120))
    path = options.out / f"base_size_{options.device.type}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")


def gpu(device: torch.device) -> dict[str, str]:
    return {"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}


def measure(
    backbone: str, folder: Path, texts: list[str], round_count: int, device: torch.device
) -> list[dict[str, Any]]:
    calls: dict[tuple[str, int], Callable[[], object]] = {}
    model, device_name = uni_encoder(backbone, folder / "joint"), str(device)
    engines = {"engine": Engine.from_pretrained(model, device=device_name, precision="float32")}
    engines["embedded"] = Engine.from_pretrained("embedded", device=device_name, precision="float32")
    if choose_precision("auto", device) is torch.bfloat16:
        engines["engine, bfloat16"] = Engine.from_pretrained(model, device=device_name, precision="bfloat16")
    reference = ZeroShotClassificationPipeline(
        ReferenceModel.from_pretrained(model),
        AutoTokenizer.from_pretrained(model),
        device=device_name,
        progress_bar=False,
    )
    cross = CrossEncoderClassifier(cross_encoder(backbone, folder / "pairs"), device=device_name)
    for count in COUNTS:
        labels = [f"topic {number}" for number in range(count)]
        for name, engine in engines.items():
            calls[name, count] = partial(engine.logits, texts, labels)
        calls["engine, a text at a time", count] = partial(one_by_one, engines["engine"], texts, labels)
        calls["gliclass, batch 1", count] = partial(reference, texts, labels, batch_size=1)
        calls[f"gliclass, batch {REFERENCE_BATCH_SIZE}", count] = partial(
            reference, texts, labels, batch_size=REFERENCE_BATCH_SIZE
        )
        if count == CROSS_ENCODER_LABELS:
            calls["cross-encoder", count] = partial(cross.logits, texts, LabelSet.of(*labels))
    seconds = rounds.seconds(calls, round_count)
    return [
        {
            "backbone": backbone,
            "contender": name,
            "labels": count,
            "texts_per_s": len(texts) / statistics.median(taken),
            "of_one_label": rounds.ratio(seconds[name, 1], taken) if (name, 1) in seconds else None,
            "engine_is_as_fast": rounds.ratio(taken, seconds["engine", count]),
        }
        for (name, count), taken in seconds.items()
    ]


def uni_encoder(backbone: str, folder: Path) -> str:
    """Save a uni-encoder with random weights and return its folder."""
    tokenizer = joint_tokenizer()
    config = UniEncoderConfig(
        encoder_config=encoder(backbone, tokenizer),
        class_token_index=tokenizer.convert_tokens_to_ids(LABEL_TOKEN),
        text_token_index=tokenizer.convert_tokens_to_ids(SEP_TOKEN),
        vocab_size=len(tokenizer),
        hidden_size=768,
        prompt_first=True,
        **HEADS[backbone],
    )
    torch.manual_seed(SEED)
    return str(checkpoint.save(UniEncoderModel(config), tokenizer, folder))


def cross_encoder(backbone: str, folder: Path) -> str:
    tokenizer = joint_tokenizer()
    config = encoder(backbone, tokenizer)
    config.num_labels = 1
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def encoder(backbone: str, tokenizer: PreTrainedTokenizerFast) -> Any:
    return AutoConfig.for_model(
        backbone, vocab_size=len(tokenizer), pad_token_id=tokenizer.pad_token_id, **BACKBONES[backbone]
    )


def one_by_one(engine: Engine, texts: list[str], labels: list[str]) -> None:
    for text in texts:
        engine.logits([text], labels)


def show(result: dict[str, Any], console: Console) -> None:
    about = result["machine"]
    device = about.get("gpu") or f"{about['cpu']}, {result['threads']} threads"
    table = Table(title=f"{device}, {result['texts']['count']} texts of 200 tokens, float32 unless stated")
    for heading in ("backbone", "", "labels", "texts/s", "of one label's speed", "the engine is as fast"):
        table.add_column(heading)
    for row in result["rows"]:
        share = rounds.shown(row["of_one_label"], ".0%") if row["of_one_label"] else ""
        times = rounds.shown(row["engine_is_as_fast"], ".2f")
        table.add_row(row["backbone"], row["contender"], str(row["labels"]), f"{row['texts_per_s']:.2f}", share, times)
    console.print(table)


if __name__ == "__main__":
    main()
