"""Calibration error of the embedded model, before and after `gliclass-spark calibrate`.

    python -m benchmarks.quality.calibration DATA [--max-rows 2000] [--sets NAME ...] [--out FOLDER]
    python -m benchmarks.quality.calibration DATA --choose [--sets NAME ...]

DATA is a folder of Parquet tables with the columns text, labels and split. Of each set's train split at most --max-rows
texts are taken, each label on its own (a text may have several): to one half the calibration is fitted, to all of it
and to 100 texts of it, drawn twenty times; on the other half the error is evaluated, over all scores and for each label
alone, the mean of the labels. For comparison: one temperature for the set, and what sampling alone leaves of the error
(sampling_alone.py). Plots the set with the largest error before.

--choose compares ways to fit on sets that are not those of the report (calibration_choice.py), and keeps the table in
results/calibration_choice.json.
"""

from __future__ import annotations

from gliclass_spark.inference.openmp import limit_spinning

limit_spinning()

# isort: split
import argparse
import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import machine
from benchmarks.folders import RESULTS
from benchmarks.quality import calibration_choice
from benchmarks.quality.judged_logits import FEW, JudgedLogits, judged_logits
from benchmarks.quality.sampling_alone import mean_errors, sampling_alone
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.inference.calibration import Ridge
from gliclass_spark.inference.engine import Engine
from gliclass_spark.report.evaluation_plots import reliability_diagram
from gliclass_spark.training.data.labelled_text import read_sets

MODEL = "embedded"
DRAWS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--max-rows", type=int, default=2000)
    parser.add_argument("--sets", nargs="*", help="only these; the others' results of the same model are kept")
    parser.add_argument("--choose", action="store_true", help="compare ways to fit, on other sets")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    engine = Engine.from_pretrained(MODEL)
    this_run: dict[str, Any] = {"model": resolve_model(MODEL).digest, "machine": machine.describe()}
    names = options.sets or (calibration_choice.SETS if options.choose else [""])
    paths = [options.data / f"{name}.parquet" if name else options.data for name in names]
    labelled_sets = [labelled for path in paths for labelled in read_sets(path, "train")]
    sets = [judged_logits(engine, labelled, options.max_rows) for labelled in labelled_sets]
    console = Console(width=150)
    if options.choose:
        path = options.out / "calibration_choice.json"
        rows = calibration_choice.compare_ways(sets)
        calibration_choice.show_ways(rows, console)
        document: dict[str, Any] = {**this_run, "sets": [judged.label_set.name for judged in sets], "rows": rows}
    else:
        path = options.out / "calibration.json"
        document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        earlier = document.get("sets", {}) if document.get("model") == this_run["model"] else {}
        measured = {judged.label_set.name: measure(judged) for judged in sets}
        document = {**this_run, "sets": dict(sorted({**earlier, **measured}.items()))}
        show(document["sets"], console)
        plot(sets, options.out / "calibration.png")
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")


def measure(judged: JudgedLogits) -> dict[str, Any]:
    fitted_on, evaluated_on = judged.halves()
    few = [evaluated_on.errors(part.fitted(Ridge())) for part in fitted_on.draws(FEW, DRAWS)]
    return {
        "labels": len(judged.label_set),
        "fitted_on": len(fitted_on.logits),
        "evaluated_on": len(evaluated_on.logits),
        "before": evaluated_on.errors(judged.label_set),
        "one_temperature": evaluated_on.errors(fitted_on.one_temperature()),
        "after": evaluated_on.errors(fitted_on.fitted(Ridge())),
        f"after_{FEW}": mean_errors(few),
        f"after_{FEW}_worst": {name: max(each[name] for each in few) for name in few[0]},
        "sampling_alone": sampling_alone(judged),
    }


def show(rows: dict[str, dict[str, Any]], console: Console) -> None:
    columns = ("before", "one_temperature", "after", f"after_{FEW}")
    table = Table(title="expected calibration error on texts that were not fitted to: all scores / mean of labels")
    table.add_column("set")
    headings = ("labels", "fitted to", "before", "one temperature", "slope and bias", f"... of {FEW} texts")
    alone = ("sampling alone: perfect", f"base rates of {FEW} texts", f"debiased, of {FEW} texts")
    for heading in (*headings, *alone):
        table.add_column(heading, justify="right")
    for name, row in rows.items():
        errors = [*(row[column] for column in columns), *row["sampling_alone"].values()]
        cells = [f"{each['pooled']:.3f} / {each['labels']:.3f}" for each in errors]
        few = row[f"after_{FEW}"]
        cells.append(f"{few['debiased_pooled']:.3f} / {few['debiased_labels']:.3f}")
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
