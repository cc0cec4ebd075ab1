"""Spark's share of the engine's speed: the tag job from Delta to Delta against one process, in alternating rounds.

    python -m benchmarks.spark.spark_share [--texts N] [--rounds R] [--out FOLDER]

The embedded model, ten labels, two threads: two workers with one each, and one engine with two. A job tags the texts
into new tables, and a second one as many others into the same tables, as a nightly run does.
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

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.folders import RESULTS
from benchmarks.spark import lake_runs
from benchmarks.speed import corpus
from benchmarks.speed.memory import LABELS
from gliclass_spark.inference.engine import Engine
from gliclass_spark.spark.jobs import tag_step

THREADS = 2
JOBS = ("first job", "later job")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=int, default=4000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS)
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
    measured: list[dict[str, dict[str, float]]] = []
    for number in range(-1, rounds):  # the first round loads the workers' models, and is not counted
        lake = folder / f"round{number}"
        lake.mkdir()
        started = time.perf_counter()
        engine.run(texts, LABELS)
        seconds = {"engine": {"job": time.perf_counter() - started}}
        for job in JOBS:
            lake_runs.add(spark, lake, [(f"{job} {position}", text) for position, text in enumerate(texts)])
            started = time.perf_counter()
            manifest = tag_step(lake_runs.run(spark, lake, job, LABELS))
            seconds[job] = {"job": time.perf_counter() - started, **manifest.step_seconds}
        if number >= 0:
            measured.append(seconds)
    return {
        "machine": machine.describe(),
        "texts": {"count": count, "labels": len(LABELS), "digest": corpus.digest(texts)},
        "shares": {
            job: {
                name: [seconds["engine"]["job"] / seconds[job][part] for seconds in measured]
                for name, part in (("of the whole job", "job"), ("while scoring", "score"))
            }
            for job in JOBS
        },
        "seconds": measured,
    }


def show(result: dict[str, Any], console: Console) -> None:
    table = Table(title=f"{result['texts']['count']} texts, Delta to Delta", title_justify="left")
    table.add_column("seconds (median)")
    for name in ("engine", *JOBS):
        table.add_column(name, justify="right")
    for part in result["seconds"][0][JOBS[0]]:
        cells = ([seconds[name].get(part) for seconds in result["seconds"]] for name in ("engine", *JOBS))
        table.add_row(part, *("" if None in values else f"{statistics.median(values):.1f}" for values in cells))
    console.print(table)
    for job, shares in result["shares"].items():
        for name, values in shares.items():
            spread = f"{min(values):.2f}-{max(values):.2f}"
            share = f"{statistics.median(values):.2f} ({spread})"
            console.print(f"{job}, share of the engine's speed {name}: {share}", highlight=False)


if __name__ == "__main__":
    main()
