"""Models of the published base size, the embedded one and the gliclass library: speed by number of labels.

    python -m benchmarks.speed.base_size [--texts N] [--rounds R] [--threads T] [--device cuda] [--only BACKBONE]
        [--out FOLDER]

A DeBERTa-v3 and a ModernBERT of base size with random weights. Texts of 200 tokens, on the CPU unless a device is
named. The bi-encoder and the cross-encoder have the same backbone; the latter scores each pair of text and label.
Writes results/base_size_DEVICE.json.
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

import torch
from gliclass import GLiClassModel as ReferenceModel  # type: ignore[import-untyped]
from gliclass import ZeroShotClassificationPipeline
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging

from benchmarks import machine
from benchmarks.folders import RESULTS
from benchmarks.speed import base_models, corpus, rounds
from gliclass_spark.inference.device import native_bfloat16
from gliclass_spark.inference.engine import Engine
from gliclass_spark.labels import LabelSet
from gliclass_spark.model.prompts.text_tokenizer import LABEL_TOKEN, SEP_TOKEN
from gliclass_spark.training.evaluation.cross_encoder import CrossEncoderClassifier
from gliclass_spark.training.from_encoder import joint_tokenizer

COUNTS = (1, 8, 32, 128)
CROSS_ENCODER_LABELS = 32
REFERENCE_BATCH_SIZE = 8  # the pipeline's default
# Contenders that don't encode all labels in each text's input.
LABELS_APART = ("embedded", "engine, bi-encoder", "cross-encoder")
WORDS = 150  # about 200 tokens
SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--only", choices=list(base_models.BACKBONES))
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    os.environ.setdefault("RAYON_NUM_THREADS", str(options.threads))  # read by the tokenizer
    words = " ".join(corpus.texts(8 * options.texts, SEED)).split()
    texts = [" ".join(words[start * WORDS : (start + 1) * WORDS]) for start in range(options.texts)]
    rows = []
    for backbone in [options.only] if options.only else base_models.BACKBONES:
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
    model, device_name = base_models.save_uni_encoder(backbone, folder / "joint"), str(device)
    engines = {"engine": Engine.from_pretrained(model, device=device_name, precision="float32")}
    engines["engine, bi-encoder"] = Engine(base_models.bi_encoder(backbone), device=device_name, precision="float32")
    engines["embedded"] = Engine.from_pretrained("embedded", device=device_name, precision="float32")
    if native_bfloat16(device):
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
    allowed = {count: tokens_allow(backbone, texts, [f"topic {number}" for number in range(count)]) for count in COUNTS}
    return [
        {
            "backbone": backbone,
            "contender": name,
            "labels": count,
            "texts_per_s": len(texts) / statistics.median(taken),
            "tokens_allow": None if name in LABELS_APART else allowed[count],
            "of_one_label": rounds.ratio(seconds[name, 1], taken) if (name, 1) in seconds else None,
            "engine_is_as_fast": rounds.ratio(taken, seconds["engine", count]),
        }
        for (name, count), taken in seconds.items()
    ]


def cross_encoder(backbone: str, folder: Path) -> str:
    """Save a cross-encoder with random weights and return its folder."""
    tokenizer = joint_tokenizer()
    config = base_models.encoder_config(backbone, tokenizer)
    config.num_labels = 1
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def tokens_allow(backbone: str, texts: list[str], labels: list[str]) -> float:
    """Return one label's floating-point operations over those of these labels: no uni-encoder keeps a larger share."""
    tokenizer = joint_tokenizer()
    config = base_models.encoder_config(backbone, tokenizer)

    def flops(some_labels: list[str]) -> float:
        prompt = "".join(LABEL_TOKEN + label for label in some_labels) + SEP_TOKEN
        return base_models.flop_count(
            [len(ids) for ids in tokenizer([prompt + text for text in texts]).input_ids], config
        )

    return flops(labels[:1]) / flops(labels)


def one_by_one(engine: Engine, texts: list[str], labels: list[str]) -> None:
    for text in texts:
        engine.logits([text], labels)


def show(result: dict[str, Any], console: Console) -> None:
    about = result["machine"]
    device = about.get("gpu") or f"{about['cpu']}, {result['threads']} threads"
    table = Table(title=f"{device}, {result['texts']['count']} texts of 200 tokens, float32 unless stated")
    for heading in (
        "backbone",
        "",
        "labels",
        "texts/s",
        "of one label's speed",
        "tokens allow",
        "the engine is as fast",
    ):
        table.add_column(heading)
    for row in result["rows"]:
        share = rounds.shown(row["of_one_label"], ".0%") if row["of_one_label"] else ""
        times = rounds.shown(row["engine_is_as_fast"], ".2f")
        allowed = f"{row['tokens_allow']:.0%}" if row["tokens_allow"] else ""
        speed = f"{row['texts_per_s']:.2f}"
        table.add_row(row["backbone"], row["contender"], str(row["labels"]), speed, share, allowed, times)
    console.print(table)


if __name__ == "__main__":
    main()
