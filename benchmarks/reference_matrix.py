"""Every supported configuration against the reference library: the largest difference between two logits.

    python benchmarks/reference_matrix.py [--every N]

Backbones x poolings x scorers x class-token poolings x options, small random models, float32, batch size 1.
Exits with 1 if a difference is over 1e-5.
"""

from __future__ import annotations

import argparse
import sys
from itertools import groupby, islice, product
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "unit"))

from reference_models import BACKBONES, CLASS_TOKEN_POOLINGS, OPTIONS, TOLERANCE, Cell, build, cells, logits_alone

TEXTS = (
    "Spark",
    "The quick brown fox jumps over the lazy dog again and again, in Zürich; nobody has asked it why.",
)
LABELS = ("sport", "machine learning: models and data", "web")


def largest_difference(cell: Cell) -> float:
    """Between a logit of ours and the reference's, for the same token ids."""
    reference = build(cell.backbone, **cell.changes)
    ours = reference.twin()
    inputs = [reference.input_ids(text, LABELS) for text in TEXTS]
    return max(float((logits_alone(ours, ids) - reference.logits(ids)).abs().max()) for ids in inputs)


def table(title: str, found: dict[Cell, float]) -> Table:
    """One row for a head, one column for an option."""
    shown = Table("pooling", "scorer", *OPTIONS, title=title)
    for (pooling, scorer), row in groupby(found, key=lambda cell: (cell.pooling, cell.scorer)):
        by_option = {cell.option: found[cell] for cell in row}
        shown.add_row(pooling, scorer, *(_written(by_option.get(option)) for option in OPTIONS))
    return shown


def _written(difference: float | None) -> str:
    if difference is None:
        return ""
    return f"{difference:.0e}" if difference <= TOLERANCE else f"[bold red]{difference:.0e}[/]"


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only every Nth configuration")
    every = parser.parse_args(argv).every
    torch.set_num_threads(1)
    matrix = list(islice(cells(), 0, None, every))
    found = {cell: largest_difference(cell) for cell in track(matrix, "comparing", console=Console(stderr=True))}
    console = Console(width=None if sys.stdout.isatty() else 160)
    for backbone, pooling in product(BACKBONES, CLASS_TOKEN_POOLINGS):
        block = [cell for cell in found if (cell.backbone, cell.class_token_pooling) == (backbone, pooling)]
        console.print(table(f"{backbone}, class tokens: {pooling}", {cell: found[cell] for cell in block}))
    largest = max(found.values())
    over = sum(difference > TOLERANCE for difference in found.values())
    console.print(f"{len(found)} configurations; largest difference {largest:.1e}; {over} over {TOLERANCE:.0e}")
    return 1 if over else 0


if __name__ == "__main__":
    sys.exit(main())
