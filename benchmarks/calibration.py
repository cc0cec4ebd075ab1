"""Calibration error of the embedded model, before and after `gliclass-spark calibrate`.

    python benchmarks/calibration.py DATA [--max-rows 2000] [--out FOLDER]

DATA is a folder of tables with the columns text, labels and split. Of each set's train split one half of the texts is
fitted to and the other evaluated on, each label on its own (a text may have several). Plots the set with the largest
error, before and after.
"""

from __future__ import annotations

from gliclass_spark.inference.openmp import limit_spinning

limit_spinning()

# isort: split
import argparse
import json
from pathlib import Path

import machine
from rich.console import Console
from rich.progress import track
from rich.table import Table

from gliclass_spark.inference.calibration import Reliability
from gliclass_spark.inference.engine import Engine
from gliclass_spark.labels import LabelSet
from gliclass_spark.report.evaluation_plots import reliability_diagram
from gliclass_spark.training.data.labelled_text import read_sets
from gliclass_spark.training.evaluation.calibrate import Calibration, calibrate

SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--max-rows", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    engine = Engine.from_pretrained("embedded")
    calibrations = {
        labelled.name: calibrate(
            engine,
            LabelSet.of(*labelled.labels, name=labelled.name),
            labelled,
            max_rows=options.max_rows,
            seed=SEED,
        )
        for labelled in track(read_sets(options.data, "train"), description="sets", transient=True)
    }
    show(calibrations, Console(width=100))
    path = options.out / "calibration.json"
    document = {"machine": machine.describe(), "sets": {name: row(each) for name, each in calibrations.items()}}
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    worst = max(calibrations, key=lambda name: calibrations[name].before.error)
    picture = options.out / "calibration.png"
    reliability_diagram(calibrations[worst].before, calibrations[worst].after).savefig(picture, dpi=100)
    print(f"written to {path}; {picture} shows {worst}")


def row(calibration: Calibration) -> dict[str, object]:
    return {
        "fitted_on": calibration.fitted_on,
        "evaluated_on": calibration.evaluated_on,
        "before": bins(calibration.before),
        "after": bins(calibration.after),
    }


def bins(reliability: Reliability) -> dict[str, object]:
    """An empty bin has no means."""
    filled = reliability.counts > 0
    return {
        "error": reliability.error,
        "counts": reliability.counts[filled].astype(int).tolist(),
        "confidence": reliability.confidence[filled].tolist(),
        "accuracy": reliability.accuracy[filled].tolist(),
    }


def show(calibrations: dict[str, Calibration], console: Console) -> None:
    table = Table(title="expected calibration error, on texts that were not fitted to")
    for heading in ("set", "labels", "fitted to", "evaluated on", "before", "after"):
        table.add_column(heading, justify="left" if heading == "set" else "right")
    for name, each in calibrations.items():
        counts = (len(each.label_set), each.fitted_on, each.evaluated_on)
        table.add_row(name, *map(str, counts), f"{each.before.error:.3f}", f"{each.after.error:.3f}")
    console.print(table)


if __name__ == "__main__":
    main()
