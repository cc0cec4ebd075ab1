"""The cost of labels: the engine's texts/s with 1 to 1,000 labels, interleaved.

    python -m benchmarks.speed.labels [--texts N] [--rounds R] [--threads T] [--out FOLDER]

The three architectures over the embedded model's encoder, before any training: speed does not depend on the weights. On
the CPU; texts of 200 tokens.
"""

from __future__ import annotations

from gliclass_spark.inference.openmp import limit_spinning

limit_spinning()

# isort: split
import argparse
import json
import os
import statistics
from functools import partial
from pathlib import Path
from typing import Any, get_args

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.folders import RESULTS
from benchmarks.speed import corpus, rounds
from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.inference.engine import Engine
from gliclass_spark.model.checkpoint import Checkpoint
from gliclass_spark.training.from_encoder import Attention, untrained_model

COUNTS = (1, 32, 128, 1000)
WORDS = 150  # about 200 tokens
SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    os.environ.setdefault("RAYON_NUM_THREADS", str(options.threads))  # read by the tokenizer
    result = measure(options.texts, options.rounds, options.threads)
    show(result, Console(width=100))
    path = options.out / "labels.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")


def measure(text_count: int, round_count: int, threads: int) -> dict[str, Any]:
    words = " ".join(corpus.texts(4 * text_count, SEED)).split()
    texts = [" ".join(words[start * WORDS : (start + 1) * WORDS]) for start in range(text_count)]
    labels = {count: [f"topic {number}" for number in range(count)] for count in COUNTS}
    engines = {attention: untrained_engine(attention) for attention in get_args(Attention)}
    calls = {
        (name, count): partial(engine.logits, texts, labels[count])
        for name, engine in engines.items()
        for count in COUNTS
    }
    seconds = rounds.seconds(calls, round_count)
    rows = [
        {
            "attention": name,
            "labels": count,
            "texts_per_s": len(texts) / statistics.median(taken),
            "of_one_label": rounds.ratio(seconds[name, 1], taken),
        }
        for (name, count), taken in seconds.items()
    ]
    return {
        "machine": machine.describe(),
        "threads": threads,
        "rounds": round_count,
        "texts": {"count": len(texts), "words": WORDS, "digest": corpus.digest(texts)},
        "engine": repr(next(iter(engines.values()))),
        "rows": rows,
    }


def untrained_engine(attention: Attention) -> Engine:
    model, tokenizer = untrained_model(attention)
    return Engine(Checkpoint(ModelRef(attention, Path(), ""), model.eval(), tokenizer), device="cpu")


def show(result: dict[str, Any], console: Console) -> None:
    about = result["machine"]
    table = Table(title=f"{about['cpu']}, {result['threads']} threads, {result['texts']['count']} texts of 200 tokens")
    for heading in ("attention", "labels", "texts/s", "of one label's speed"):
        table.add_column(heading)
    for row in result["rows"]:
        share = row["of_one_label"]
        table.add_row(row["attention"], str(row["labels"]), f"{row['texts_per_s']:.1f}", rounds.shown(share, ".0%"))
    console.print(table)


if __name__ == "__main__":
    main()
