"""Spark's share of the engine's speed: the tag job from Delta to Delta against one process, in alternating rounds.

    python benchmarks/spark_share.py [--texts N] [--rounds R] [--out FOLDER]

The embedded model, ten labels, the same texts, two threads: two workers with one each, and one engine with two.
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
import time
from pathlib import Path
from typing import Any

import corpus
import lake_runs
import machine
import torch
from memory import LABELS
from rich.console import Console
from rich.table import Table

from gliclass_spark.inference.engine import Engine
from gliclass_spark.spark.jobs import tag_step

THREADS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    torch.set_num_threads(THREADS)
    os.environ["RAYON_NUM_THREADS"] = str(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), options.texts, options.rounds)
    show(result, Console(width=140))
    path = options.out / "spark_share.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")


def measure(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    texts = corpus.texts(count, seed=0)
    spark = lake_runs.session(folder)
    engine = Engine.from_pretrained("embedded", device="cpu")
    engine.run(texts[:64], LABELS)
    lake_runs.add(spark, folder, [(str(number), text) for number, text in enumerate(texts)])
    measured = []
    for number in range(-1, rounds):  # the first round loads the workers' models, and is not counted
        started = time.perf_counter()
        engine.run(texts, LABELS)
        engine_seconds = time.perf_counter() - started
        started = time.perf_counter()
        manifest = tag_step(lake_runs.run(spark, folder, f"round-{number}", LABELS, tables=f"lake-{number}"))
        if number >= 0:
            spark_seconds = time.perf_counter() - started
            measured.append({"engine": engine_seconds, "spark": spark_seconds, **manifest.step_seconds})
    shares = {part: [seconds["engine"] / seconds[part] for seconds in measured] for part in ("spark", "score")}
    return {
        "machine": machine.describe(),
        "texts": {"count": count, "labels": len(LABELS), "digest": corpus.digest(texts)},
        "share": {"median": statistics.median(shares["spark"]), "all": shares["spark"]},
        "share_while_scoring": {"median": statistics.median(shares["score"]), "all": shares["score"]},
        "seconds": measured,
    }


def show(result: dict[str, Any], console: Console) -> None:
    table = Table(title=f"{result['texts']['count']} texts, Delta to Delta", title_justify="left")
    table.add_column("seconds (median)")
    table.add_column("", justify="right")
    for part in result["seconds"][0]:
        table.add_row(part, f"{statistics.median(seconds[part] for seconds in result['seconds']):.1f}")
    console.print(table)
    for name in ("share", "share_while_scoring"):
        share = result[name]
        spread = f"{min(share['all']):.2f}-{max(share['all']):.2f}"
        console.print(
            f"{name.replace('_', ' ')} of the engine's speed: {share['median']:.2f} ({spread})", highlight=False
        )


if __name__ == "__main__":
    main()
