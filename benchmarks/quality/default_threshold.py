"""The threshold 0.5 before and after one scale and offset is fitted for all labels, on sets that were not trained on.

    python -m devtools.training_data mixture DATA HELD_OUT --folders train2
    python -m benchmarks.quality.default_threshold HELD_OUT DEV [--model embedded] [--split test] [--max-rows 600]

Scale and offset are fitted to the split test of the first folder's sets, as `devtools/embed_model.py --calibrate-on`
does, and applied to the second's: precision, recall, F1 and expected calibration error of each label on its own, and
the calibration error of the softmax over a text's labels. The best label of a text stays the same.
"""

from __future__ import annotations

from gliclass_spark.inference.openmp import limit_spinning

limit_spinning()

# isort: split
import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.special import expit, softmax

from benchmarks import machine
from benchmarks.folders import RESULTS
from devtools.embed_model import QUESTIONS, SEED
from devtools.scorer_calibration import Matrix, draw_questions, fit
from gliclass_spark.inference.calibration import reliability
from gliclass_spark.inference.engine import Engine
from gliclass_spark.labels import LabelSet
from gliclass_spark.training.data.labelled_text import LabelledSet, read_sets
from gliclass_spark.training.evaluation.evaluate import sample

BEFORE, AFTER = "as it is", "one scale and offset"


@dataclass(frozen=True)
class Measures:
    """Of one set, in [0, 1]: of each label on its own, and of the softmax over the labels of a text."""

    precision: float
    recall: float
    f1: float
    calibration_error: float
    softmax_calibration_error: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("held_out", type=Path)
    parser.add_argument("dev", type=Path)
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--split", default="test")
    parser.add_argument("--max-rows", type=int, default=600)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    engine = Engine.from_pretrained(options.model)
    slope, offset = fit(draw_questions(engine, read_sets(options.held_out, "test"), QUESTIONS, SEED))
    print(f"logits times {slope:.3f} plus {offset:.3f}")
    measures: dict[str, dict[str, Measures]] = {}
    for labelled in read_sets(options.dev, options.split):
        evaluated = sample(labelled, options.max_rows)
        logits = engine.logits(evaluated.texts, LabelSet.of(*evaluated.labels)).astype(np.float64)
        measures[labelled.name] = {
            BEFORE: measured(logits, evaluated),
            AFTER: measured(slope * logits + offset, evaluated),
        }
    show(measures, Console(width=120))
    result = {
        "machine": machine.describe(),
        "model": engine.ref.digest,
        "slope": slope,
        "offset": offset,
        "sets": {name: {way: asdict(each) for way, each in ways.items()} for name, ways in measures.items()},
    }
    path = options.out / "default_threshold.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")


def measured(logits: Matrix, labelled: LabelledSet) -> Measures:
    truth = np.zeros(logits.shape, dtype=bool)
    for row, labels in enumerate(labelled.targets):
        truth[row, list(labels)] = True
    reached = logits >= 0
    right = int((reached & truth).sum())
    return Measures(
        precision=right / max(1, int(reached.sum())),
        recall=right / int(truth.sum()),
        f1=2 * right / int(reached.sum() + truth.sum()),
        calibration_error=reliability(expit(logits).astype(np.float32), truth).error,
        softmax_calibration_error=reliability(softmax(logits, axis=1).astype(np.float32), truth).error,
    )


def show(measures: dict[str, dict[str, Measures]], console: Console) -> None:
    table = Table(title="at the threshold 0.5: precision, recall, F1, calibration error; of the softmax")
    table.add_column("set")
    for way in (BEFORE, AFTER):
        table.add_column(way, justify="right")
    for name, ways in measures.items():
        table.add_row(name, *(cell([ways[way]]) for way in (BEFORE, AFTER)))
    table.add_row("mean", *(cell([ways[way] for ways in measures.values()]) for way in (BEFORE, AFTER)))
    console.print(table)


def cell(rows: list[Measures]) -> str:
    means = (fmean(each) for each in zip(*(asdict(row).values() for row in rows), strict=True))
    precision, recall, f1, error, softmax_error = (f"{mean:.3f}" for mean in means)
    return f"{precision}, {recall}, {f1}, {error}; {softmax_error}"


if __name__ == "__main__":
    main()
