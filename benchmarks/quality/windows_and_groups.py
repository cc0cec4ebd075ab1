"""Quality and speed of long texts in windows, and of many labels in groups.

    python -m benchmarks.quality.windows_and_groups DATA [--split test] [--max-rows 600] [--out FOLDER]

DATA is a folder of tables with the columns text, labels and split, held out of training. Groups are measured with the
embedded model's first version, a uni-encoder (from the repository's history: run this in a full clone); windows with
both versions, on texts longer than a window.
"""

from __future__ import annotations

from gliclass_spark.inference.openmp import limit_spinning

limit_spinning()

# isort: split
import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks import machine
from benchmarks.folders import RESULTS
from benchmarks.quality.embedded import first_version
from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.results import FloatArray
from gliclass_spark.labels import LabelSet
from gliclass_spark.training.data.labelled_text import LabelledSet, read_sets
from gliclass_spark.training.evaluation.evaluate import Score, sample, score

GROUPS = {"at once": None, "groups of 16": 16, "groups of 8": 8, "groups of 4": 4, "one by one": 1}
WINDOWS = ("cut", "max", "mean", "token_mean")
MIN_LABELS = 6


@dataclass(frozen=True)
class EngineWithSettings:
    """An engine that scores every label set with these changes to it."""

    engine: Engine
    changes: dict[str, Any]

    def logits(self, texts: Sequence[str], labels: LabelSet) -> FloatArray:
        return self.engine.logits(texts, labels.model_copy(update=self.changes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--max-rows", type=int, default=600)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    sets = [sample(labelled, options.max_rows) for labelled in read_sets(options.data, options.split)]
    with tempfile.TemporaryDirectory() as folder:
        first, embedded = Engine.from_pretrained(first_version(Path(folder))), Engine.from_pretrained("embedded")
        with_many_labels = [labelled for labelled in sets if len(labelled.labels) >= MIN_LABELS]
        groups = [
            score(EngineWithSettings(first, {"labels_per_pass": size}), labelled, name=name)
            for labelled in track(with_many_labels, description="groups")
            for name, size in GROUPS.items()
        ]
        long = [long_texts(labelled, [first, embedded]) for labelled in sets]
        with_long_texts = [labelled for labelled in long if len(labelled)]
        windows = [
            score(EngineWithSettings(engine, {"long_texts": rule}), labelled, name=f"{version}, {rule}")
            for labelled in track(with_long_texts, description="windows")
            for version, engine in {"its first version": first, "embedded": embedded}.items()
            for rule in WINDOWS
        ]
    console = Console(width=120)
    show("labels in groups, first version: macro-F1 (texts/s)", groups, console)
    show("texts longer than a window: macro-F1 (texts/s)", windows, console)
    path = options.out / "windows_and_groups.json"
    result = {
        "machine": machine.describe(),
        "split": options.split,
        "groups": [asdict(row) for row in groups],
        "windows": [asdict(row) for row in windows],
    }
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")


def long_texts(labelled: LabelledSet, engines: Sequence[Engine]) -> LabelledSet:
    """Return the texts that every engine scores in several windows."""
    in_windows = [engine.run(labelled.texts, labelled.labels).chunk_counts > 1 for engine in engines]
    return labelled.rows([row for row in range(len(labelled)) if all(several[row] for several in in_windows)])


def show(title: str, scores: Sequence[Score], console: Console) -> None:
    names = list(dict.fromkeys(row.contender for row in scores))
    table = Table(title=title)
    for heading in ("set", "labels", "texts", *names):
        table.add_column(heading, justify="left" if heading == "set" else "right")
    for start in range(0, len(scores), len(names)):
        row = scores[start : start + len(names)]
        cells = [f"{score.macro_f1:.3f} ({score.texts_per_s:.0f})" for score in row]
        table.add_row(row[0].name, str(row[0].labels), str(row[0].rows), *cells)
    console.print(table)


if __name__ == "__main__":
    main()
