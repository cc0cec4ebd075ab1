"""Largest difference between logits and those of the reference library, in every supported configuration.

    python -m benchmarks.numerics.reference_matrix [--every N] [--processes P] [--out FOLDER]

Architectures x backbones x poolings x scorers x class-token poolings x options, small random models, float32, batch
size 1. Writes results/reference_matrix.json. Exits with 1 if a difference is over 1e-5.
"""

from __future__ import annotations

from gliclass_spark.inference.openmp import limit_spinning

limit_spinning()

# isort: split
import argparse
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.folders import REPOSITORY, RESULTS
from benchmarks.machine import describe

sys.path.insert(0, str(REPOSITORY / "tests" / "unit"))

from reference_cells import Cell, cells
from reference_models import TOLERANCE, batch_logits, build

TEXTS = (
    "Spark",
    "The quick brown fox jumps over the lazy dog again and again, in Zürich; nobody has asked it why.",
)


def largest_difference(cell: Cell) -> float:
    """Return the largest difference between a logit and the reference's, for the same token ids."""
    reference = build(cell.backbone, **cell.changes)
    model = reference.twin()
    inputs = [reference.model_inputs(text, cell.labels) for text in TEXTS]
    return max(
        float((batch_logits(model, [row])[0] - reference.forward(row, len(cell.labels))).abs().max()) for row in inputs
    )


def summary(differences: dict[Cell, float]) -> list[dict[str, Any]]:
    """Return one row for each architecture and backbone."""
    rows = []
    for (architecture, backbone), group in groupby(differences, key=lambda cell: (cell.architecture, cell.backbone)):
        of_group = [differences[cell] for cell in group]
        rows.append(
            {
                "architecture": architecture,
                "backbone": backbone,
                "configurations": len(of_group),
                "largest_difference": max(of_group),
                "over_tolerance": sum(difference > TOLERANCE for difference in of_group),
            }
        )
    return rows


def table(rows: list[dict[str, Any]]) -> Table:
    shown = Table("architecture", "backbone", "configurations", "largest difference")
    for row in rows:
        difference = f"{row['largest_difference']:.0e}"
        over = f"[bold red]{difference}, {row['over_tolerance']} over[/]" if row["over_tolerance"] else difference
        shown.add_row(row["architecture"], row["backbone"], str(row["configurations"]), over)
    return shown


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth configuration")
    parser.add_argument("--processes", type=int, default=1, metavar="P")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args(argv)
    matrix = list(islice(cells(), 0, None, options.every))
    # Spawned, because torch's threads do not survive a fork; one thread each, because the models are small.
    with ProcessPoolExecutor(
        options.processes, multiprocessing.get_context("spawn"), partial(torch.set_num_threads, 1)
    ) as processes:
        results = processes.map(largest_difference, matrix, chunksize=8)
        shown = track(results, "comparing", total=len(matrix), console=Console(stderr=True))
        differences = dict(zip(matrix, shown, strict=True))
    rows = summary(differences)
    over = [str(cell) for cell, difference in differences.items() if not difference <= TOLERANCE]
    largest = max(differences.values())
    result = {
        "machine": describe(),
        "every": options.every,
        "tolerance": TOLERANCE,
        "configurations": len(differences),
        "largest_difference": largest,
        "over_tolerance": over,
        "rows": rows,
    }
    (options.out / "reference_matrix.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    console = Console(width=None if sys.stdout.isatty() else 120)
    console.print(table(rows))
    console.print(*over, sep="\n")
    console.print(
        f"{len(differences)} configurations; largest difference {largest:.1e}; {len(over)} over {TOLERANCE:.0e}"
    )
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
