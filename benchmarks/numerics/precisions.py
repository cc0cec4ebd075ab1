"""The embedded model in each precision: macro-F1, changed labels and speed on labelled sets that it was not trained on.

    python -m benchmarks.numerics.precisions DATA [--model M] [--split test] [--max-rows 2000] [--out FOLDER]

DATA is a folder of tables with the columns text, labels and split. A label is changed if its score is on the other side
of 0.5 than in float32, the best label if it is another. Runs on the CPU; precisions that are not native are left out.
Writes results/precisions.json.
"""

from __future__ import annotations

from gliclass_spark.inference.openmp import limit_spinning

limit_spinning()

# isort: split
import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import machine
from benchmarks.folders import RESULTS
from gliclass_spark.inference.device import ModelPrecision, native_bfloat16, native_int8
from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.results import FloatArray
from gliclass_spark.labels import LabelSet
from gliclass_spark.training.data.labelled_text import LabelledSet, read_sets
from gliclass_spark.training.evaluation.evaluate import sample, score

EXACT: ModelPrecision = "float32"
CPU = torch.device("cpu")
THRESHOLD = 0.5


@dataclass(frozen=True)
class Quality:
    """A precision on one set.

    changed, best_changed: share of the labels, and of the texts, that float32 decides otherwise; largest_difference:
    between two scores.
    """

    precision: str
    name: str
    texts: int
    labels: int
    macro_f1: float
    changed: float
    best_changed: float
    largest_difference: float
    texts_per_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--split", default="test")
    parser.add_argument("--max-rows", type=int, default=2000)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    native: dict[ModelPrecision, bool] = {EXACT: True, "bfloat16": native_bfloat16(CPU), "int8": native_int8(CPU)}
    engines = {
        precision: Engine.from_pretrained(options.model, device="cpu", precision=precision)
        for precision, is_native in native.items()
        if is_native
    }
    sets = [sample(labelled, options.max_rows) for labelled in read_sets(options.data, options.split)]
    rows = [row for labelled in track(sets, description="sets", transient=True) for row in measure(engines, labelled)]
    result = {
        "machine": machine.describe(),
        "model": Path(options.model).name,
        "split": options.split,
        "sets": [asdict(row) for row in rows],
        "means": means(rows, engines),
    }
    show(result, Console(width=120))
    path = options.out / "precisions.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")


def measure(engines: Mapping[ModelPrecision, Engine], labelled: LabelledSet) -> list[Quality]:
    label_set = LabelSet.of(*labelled.labels, name=labelled.name)
    exact = engines[EXACT].scores(labelled.texts, label_set)
    return [compare(engine, labelled, engine.scores(labelled.texts, label_set), exact) for engine in engines.values()]


def compare(engine: Engine, labelled: LabelledSet, scores: FloatArray, exact: FloatArray) -> Quality:
    evaluated = score(engine, labelled, name=engine.precision)
    return Quality(
        precision=engine.precision,
        name=labelled.name,
        texts=len(labelled),
        labels=len(labelled.labels),
        macro_f1=evaluated.macro_f1,
        changed=float(((scores >= THRESHOLD) != (exact >= THRESHOLD)).mean()),
        best_changed=float((scores.argmax(axis=1) != exact.argmax(axis=1)).mean()),
        largest_difference=float(np.abs(scores - exact).max()),
        texts_per_s=evaluated.texts_per_s,
    )


def means(rows: Sequence[Quality], precisions: Mapping[ModelPrecision, Engine]) -> dict[str, dict[str, float]]:
    """Return each precision's means over the sets; of the changed labels also over all labels of all texts."""
    result = {}
    for precision in precisions:
        own = [row for row in rows if row.precision == precision]
        sizes = [row.texts * row.labels for row in own]
        result[precision] = {
            "macro_f1": float(np.mean([row.macro_f1 for row in own])),
            "changed": float(np.mean([row.changed for row in own])),
            "changed_of_all_labels": float(np.average([row.changed for row in own], weights=sizes)),
            "best_changed": float(np.mean([row.best_changed for row in own])),
        }
    return result


def show(result: Mapping[str, Any], console: Console) -> None:
    table = Table(title="macro-F1 of the best label (labels changed, best labels changed), by precision")
    precisions = list(result["means"])
    for heading in ("set", "labels", "texts", *precisions):
        table.add_column(heading, justify="left" if heading == "set" else "right", no_wrap=True)
    rows = result["sets"]
    for start in range(0, len(rows), len(precisions)):
        of_set = rows[start : start + len(precisions)]
        first = of_set[0]
        table.add_row(first["name"], str(first["labels"]), str(first["texts"]), *(cell(row) for row in of_set))
    table.add_row("mean", "", "", *(cell(mean) for mean in result["means"].values()))
    table.add_row(
        "of all labels", "", "", *(f"{mean['changed_of_all_labels']:.2%}" for mean in result["means"].values())
    )
    console.print(table)


def cell(row: Mapping[str, Any]) -> str:
    return f"{row['macro_f1']:.4f} ({row['changed']:.2%}, {row['best_changed']:.2%})"


if __name__ == "__main__":
    main()
