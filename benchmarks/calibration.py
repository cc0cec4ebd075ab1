"""Calibration error of the embedded model, before and after `gliclass-spark calibrate`.

    python benchmarks/calibration.py DATA [--max-rows 2000] [--sets NAME ...] [--out FOLDER]
    python benchmarks/calibration.py DATA --choose [--sets NAME ...]

DATA is a folder of tables with the columns text, labels and split. Of each set's train split at most --max-rows texts
are taken, each label on its own (a text may have several): to one half the calibration is fitted, to all of it and to
100 texts of it, drawn twenty times; on the other half the error is evaluated, over all scores and for each label alone,
the mean of the labels. For comparison: one temperature for the set. Plots the set with the largest error before.

--choose compares ridge weights by the log loss of the other half, fitted to 100 texts and to half of the set. It is for
sets to train on: the weights must not be chosen on the sets that the error is reported on.
"""

from __future__ import annotations

from gliclass_spark.inference.openmp import limit_spinning

limit_spinning()

# isort: split
import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from statistics import fmean

import machine
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.optimize import minimize_scalar

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.inference.calibration import (
    Reliability,
    Ridge,
    Truth,
    fit_calibration,
    is_one_sided,
    mean_label_error,
    reliability,
)
from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.results import FloatArray, probabilities
from gliclass_spark.labels import LabelSet
from gliclass_spark.report.evaluation_plots import reliability_diagram
from gliclass_spark.training.data.labelled_text import LabelledSet, read_sets
from gliclass_spark.training.evaluation.evaluate import sample

MODEL = "embedded"
SEED = 0
FEW = 100
DRAWS = 20
SLOPES, BIASES = (0.1, 0.3, 1.0, 3.0, 10.0), (0.03, 0.1, 0.3, 1.0, 3.0)


@dataclass(frozen=True)
class JudgedLogits:
    """Logits of texts and whether each label is true, (texts, labels) each."""

    label_set: LabelSet
    logits: FloatArray
    truth: Truth

    def rows(self, positions: slice | NDArray[np.intp]) -> JudgedLogits:
        return JudgedLogits(self.label_set, self.logits[positions], self.truth[positions])

    def halves(self) -> tuple[JudgedLogits, JudgedLogits]:
        half = len(self.logits) // 2
        return self.rows(slice(half)), self.rows(slice(half, None))

    def draws(self, count: int) -> Iterator[JudgedLogits]:
        """Yield `count` of the texts, drawn several times, each time with two labels or more."""
        drawn = 0
        for seed in range(10 * DRAWS):
            part = self.rows(np.random.default_rng(seed).permutation(len(self.logits))[:count])
            if drawn < DRAWS and not is_one_sided(part.truth).all():
                drawn += 1
                yield part

    def fitted(self, ridge: Ridge) -> LabelSet:
        return fit_calibration(self.label_set, self.logits, self.truth, ridge)

    def one_temperature(self) -> LabelSet:
        def loss(log_temperature: float) -> float:
            return self.log_loss(self.label_set.model_copy(update={"temperature": float(np.exp(log_temperature))}))

        best = float(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x)
        return self.label_set.model_copy(update={"temperature": float(np.exp(best))})

    def log_loss(self, label_set: LabelSet) -> float:
        """Return the mean log loss of the label set's scores, in nats for each text and label."""
        scores = probabilities(self.logits, label_set).astype(np.float64).clip(1e-7, 1 - 1e-7)
        return float(-np.log(np.where(self.truth, scores, 1 - scores)).mean())

    def errors(self, label_set: LabelSet) -> dict[str, float]:
        scores = probabilities(self.logits, label_set)
        return {"pooled": reliability(scores, self.truth).error, "labels": mean_label_error(scores, self.truth)}

    def reliability(self, label_set: LabelSet) -> Reliability:
        return reliability(probabilities(self.logits, label_set), self.truth)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--max-rows", type=int, default=2000)
    parser.add_argument("--sets", nargs="*", help="only these; the others' results of the same model are kept")
    parser.add_argument("--choose", action="store_true", help="compare ridge weights on sets to train on")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    engine = Engine.from_pretrained(MODEL)
    chosen = (
        labelled for labelled in read_sets(options.data, "train") if not options.sets or labelled.name in options.sets
    )
    sets = [judged_logits(engine, labelled, options.max_rows) for labelled in chosen]
    console = Console(width=110)
    path = options.out / "calibration.json"
    document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    this_run = {"model": resolve_model(MODEL).digest, "machine": machine.describe()}
    if options.choose:
        choice = compare_ridges(sets)
        show_ridges(choice, console)
        document["choice"] = {**this_run, "sets": [judged.label_set.name for judged in sets], "log_loss": choice}
    else:
        earlier = document.get("sets", {}) if document.get("model") == this_run["model"] else {}
        rows = dict(sorted({**earlier, **{judged.label_set.name: measure(judged) for judged in sets}}.items()))
        show(rows, console)
        document = {**document, **this_run, "sets": rows}
        plot(sets, options.out / "calibration.png")
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")


def judged_logits(engine: Engine, labelled: LabelledSet, max_rows: int) -> JudgedLogits:
    rows = sample(labelled, max_rows, SEED)
    label_set = LabelSet.of(*rows.labels, name=rows.name)
    truth = np.zeros((len(rows), len(label_set)), dtype=bool)
    for row, labels in enumerate(rows.targets):
        truth[row, list(labels)] = True
    return JudgedLogits(label_set, engine.logits(rows.texts, label_set), truth)


def measure(judged: JudgedLogits) -> dict[str, object]:
    fitted_on, evaluated_on = judged.halves()
    few = [evaluated_on.errors(part.fitted(Ridge())) for part in fitted_on.draws(FEW)]
    return {
        "labels": len(judged.label_set),
        "fitted_on": len(fitted_on.logits),
        "evaluated_on": len(evaluated_on.logits),
        "before": evaluated_on.errors(judged.label_set),
        "one_temperature": evaluated_on.errors(fitted_on.one_temperature()),
        "after": evaluated_on.errors(fitted_on.fitted(Ridge())),
        f"after_{FEW}": {name: fmean(each[name] for each in few) for name in ("pooled", "labels")},
        f"after_{FEW}_worst": {name: max(each[name] for each in few) for name in ("pooled", "labels")},
    }


def compare_ridges(sets: list[JudgedLogits]) -> list[dict[str, float]]:
    """Return the mean log loss of each pair of weights over the sets, fitted to 100 and to 1,000 texts."""
    rows = []
    halves = [judged.halves() for judged in sets]
    for slope, bias in product(SLOPES, BIASES):
        ridge = Ridge(slope, bias)
        few = [
            fmean(rest.log_loss(part.fitted(ridge)) for part in list(fitted_on.draws(FEW))[:3])
            for fitted_on, rest in halves
        ]
        many = [rest.log_loss(fitted_on.fitted(ridge)) for fitted_on, rest in halves]
        rows.append({"slope": slope, "bias": bias, f"texts_{FEW}": fmean(few), "texts_all": fmean(many)})
    return rows


def show_ridges(rows: list[dict[str, float]], console: Console) -> None:
    table = Table(title="log loss of the other half, in nats a score, mean of the sets")
    for heading in ("ridge of slope", "of bias", f"{FEW} texts", "half of the set"):
        table.add_column(heading, justify="right")
    for row in sorted(rows, key=lambda row: row[f"texts_{FEW}"]):
        table.add_row(f"{row['slope']:g}", f"{row['bias']:g}", f"{row[f'texts_{FEW}']:.5f}", f"{row['texts_all']:.5f}")
    console.print(table)


def show(rows: dict[str, dict[str, object]], console: Console) -> None:
    columns = ("before", "one_temperature", "after", f"after_{FEW}")
    table = Table(title="expected calibration error on texts that were not fitted to: all scores / mean of labels")
    table.add_column("set")
    for heading in ("labels", "fitted to", "before", "one temperature", "slope and bias", f"... of {FEW} texts"):
        table.add_column(heading, justify="right")
    for name, row in rows.items():
        cells = (f"{row[column]['pooled']:.3f} / {row[column]['labels']:.3f}" for column in columns)  # type: ignore[index]
        table.add_row(name, str(row["labels"]), str(row["fitted_on"]), *cells)
    console.print(table)


def plot(sets: list[JudgedLogits], picture: Path) -> None:
    """Plot the reliability of the set with the largest error before, before and after."""
    halves = [judged.halves() for judged in sets]
    fitted_on, rest = max(halves, key=lambda half: half[1].errors(half[1].label_set)["pooled"])
    before, after = rest.reliability(rest.label_set), rest.reliability(fitted_on.fitted(Ridge()))
    reliability_diagram(before, after).savefig(picture, dpi=100)
    print(f"{picture} shows {rest.label_set.name}")


if __name__ == "__main__":
    main()
