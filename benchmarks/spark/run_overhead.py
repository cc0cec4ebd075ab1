"""The cost of a run that adds a few documents to a small table, and to a large one, in alternating rounds.

    python -m benchmarks.spark.run_overhead [--old 1000 100000] [--new 500] [--rounds R] [--out FOLDER]

The embedded model, two labels, short texts, `tag`, `filter` and `route` on local[2].
"""

from __future__ import annotations

from gliclass_spark.inference.openmp import limit_spinning

limit_spinning()

# isort: split
import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from pyspark.sql import SparkSession
from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.folders import RESULTS
from benchmarks.spark import lake_runs
from gliclass_spark.spark.jobs import STEPS

LABELS = ["software", "weather"]
RULES = {
    "reject": [{"reason": "weather", "when": "scores['weather'] >= 0.9"}],
    "routes": [{"route": "software", "when": "scores['software'] >= 0.5"}],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--old", type=int, nargs=2, default=[1000, 100_000])
    parser.add_argument("--new", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    console = Console(width=140)
    with tempfile.TemporaryDirectory() as folder:
        result = measure(Path(folder), options.old, options.new, options.rounds, console)
    show(result, console)
    path = options.out / "run_overhead.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")


def measure(folder: Path, sizes: list[int], new: int, rounds: int, console: Console) -> dict[str, Any]:
    spark = lake_runs.session(folder)
    for size in sizes:
        (folder / str(size)).mkdir()
        add(spark, folder / str(size), "old", size)
        with console.status(f"the first run over {size:,} documents"):
            time_run(spark, folder / str(size), "first")
    runs: dict[int, list[dict[str, float]]] = {size: [] for size in sizes}
    for number in range(-1, rounds):  # the first round warms up, and is not counted
        for size in sizes:
            add(spark, folder / str(size), f"run-{number}", new)
            with console.status(f"run {number} over {size:,} documents"):
                seconds = time_run(spark, folder / str(size), f"run-{number}")
            if number >= 0:
                runs[size].append(seconds)
    small, large = (runs[size] for size in sizes)
    ratios = [large_run["total"] / small_run["total"] for small_run, large_run in zip(small, large, strict=True)]
    return {
        "machine": machine.describe(),
        "new_documents": new,
        "old_documents": sizes,
        "ratio": {"median": statistics.median(ratios), "smallest": min(ratios), "largest": max(ratios)},
        "seconds": {str(size): runs[size] for size in sizes},
    }


def add(spark: SparkSession, folder: Path, name: str, count: int) -> None:
    lake_runs.add(
        spark, folder, [(f"{name}-{number}", f"package {number} reads and writes tables") for number in range(count)]
    )


def time_run(spark: SparkSession, folder: Path, run_id: str) -> dict[str, float]:
    """Return the seconds of a run: in total, of each job and of each of its steps."""
    run = lake_runs.run(spark, folder, run_id, LABELS, **RULES)
    seconds: dict[str, float] = {}
    for name, step in STEPS.items():
        started = time.perf_counter()
        manifest = step(run)
        seconds[name] = time.perf_counter() - started
        seconds |= {f"{name}: {part}": part_seconds for part, part_seconds in manifest.step_seconds.items()}
    return {"total": sum(seconds[name] for name in STEPS), **seconds}


def show(result: dict[str, Any], console: Console) -> None:
    table = Table(title=f"A run with {result['new_documents']} new documents", title_justify="left")
    table.add_column("seconds (median)")
    for size in result["old_documents"]:
        table.add_column(f"over {size:,}", justify="right")
    columns = [result["seconds"][str(size)] for size in result["old_documents"]]
    for part in columns[0][0]:
        table.add_row(part, *(f"{statistics.median(run[part] for run in runs):.2f}" for runs in columns))
    console.print(table)
    ratio = result["ratio"]
    console.print(f"ratio {ratio['median']:.2f} ({ratio['smallest']:.2f}-{ratio['largest']:.2f})", highlight=False)


if __name__ == "__main__":
    main()
