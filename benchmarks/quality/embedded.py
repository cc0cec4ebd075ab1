"""The embedded model beside its earlier versions and its bare encoder, on labelled sets that none was trained on.

    python -m benchmarks.quality.embedded DATA [--split test] [--max-rows 600] [--out FOLDER]

DATA is a folder of tables with the columns text, labels and split. Macro-F1 is that of each text's best label.
Precision, recall, F1 and calibration error are those of the threshold 0.5, each label on its own, over all pairs of
text and label. Earlier versions are read from the repository's history: run it in a full clone.
"""

from __future__ import annotations

from gliclass_spark.inference.openmp import limit_spinning

limit_spinning()

# isort: split
import argparse
import json
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from safetensors.torch import load

from benchmarks import machine
from benchmarks.folders import REPOSITORY, RESULTS
from gliclass_spark.checkpoints import embedded_files
from gliclass_spark.inference.calibration import reliability
from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.results import probabilities
from gliclass_spark.labels import LabelSet
from gliclass_spark.model import checkpoint
from gliclass_spark.model.architectures.label_cached import LabelCachedModel
from gliclass_spark.model.architectures.uni_encoder import UniEncoderModel
from gliclass_spark.model.configuration import LabelCachedConfig, UniEncoderConfig
from gliclass_spark.model.embedded import weights
from gliclass_spark.training.data.labelled_text import LabelledSet, read_sets
from gliclass_spark.training.evaluation.baselines import similarity_checkpoint
from gliclass_spark.training.evaluation.evaluate import Score, sample, score
from gliclass_spark.training.from_encoder import joint_tokenizer

FIRST_COMMIT = "3d862d27864a3a45e2ac52a4c495a0c0578f7d8a"
SECOND_COMMIT = "c594e066bdc3a0b560f34e72a20c3ca25cb5c127"
EMBEDDINGS = "encoder_model.embeddings.word_embeddings.weight"


@dataclass(frozen=True)
class AtHalf:
    """Precision, recall, F1 and expected calibration error at the threshold 0.5, in [0, 1].

    Of all pairs of text and label. Precision is 0 if no label reaches the threshold.
    """

    contender: str
    name: str
    precision: float
    recall: float
    f1: float
    calibration_error: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="test")
    parser.add_argument("--max-rows", type=int, default=600)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    sets = [sample(labelled, options.max_rows) for labelled in read_sets(options.data, options.split)]
    with tempfile.TemporaryDirectory() as folder:
        engines = {
            "embedded": Engine.from_pretrained("embedded"),
            "its second version": Engine.from_pretrained(second_version(Path(folder) / "second")),
            "its first version": Engine.from_pretrained(first_version(Path(folder) / "first")),
            "similarity": Engine(similarity_checkpoint("embedded")),
        }
        scores, at_half = [], []
        for labelled in track(sets, description="sets", transient=True):
            for name, engine in engines.items():
                scores.append(score(engine, labelled, name=name))
                at_half.append(score_at_half(engine, labelled, name))
    show(scores, list(engines), Console(width=120))
    show_at_half(at_half, list(engines), Console(width=140))
    path = options.out / "embedded.json"
    result = {
        "machine": machine.describe(),
        "split": options.split,
        "scores": [asdict(each) for each in scores],
        "at_half": [asdict(each) for each in at_half],
    }
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"written to {path}")


def first_version(folder: Path) -> str:
    """Save the first model that the package shipped, a joint one, as a checkpoint in `folder`."""
    config = UniEncoderConfig.from_dict(json.loads(git_show(FIRST_COMMIT, "config.json")))
    state = load(git_show(FIRST_COMMIT, "model.safetensors"))
    embeddings = weights.base_state_dict()[EMBEDDINGS]
    state[EMBEDDINGS] = torch.cat([embeddings, state.pop("new_word_embeddings").float()])
    model = UniEncoderModel(config)
    model.load_state_dict(state)
    return str(checkpoint.save(model, joint_tokenizer(), folder))


def second_version(folder: Path) -> str:
    """Save the second model that the package shipped, the first label-cached one, as a checkpoint in `folder`."""
    config = LabelCachedConfig.from_dict(json.loads(git_show(SECOND_COMMIT, "config.json")))
    stored = load(git_show(SECOND_COMMIT, "model.safetensors"))
    scales = {name.removesuffix(".row_scales"): stored.pop(name) for name in [*stored] if name.endswith(".row_scales")}
    state = {name: weight * scales[name] if name in scales else weight for name, weight in stored.items()}
    model = LabelCachedModel(config)
    model.load_state_dict({**state, EMBEDDINGS: weights.base_state_dict()[EMBEDDINGS]})
    return str(checkpoint.save(model, weights.tokenizer(), folder))


def git_show(commit: str, name: str) -> bytes:
    path = (embedded_files.FOLDER / name).relative_to(REPOSITORY)
    command = ["git", "-C", str(REPOSITORY), "show", f"{commit}:{path}"]
    return subprocess.run(command, check=True, capture_output=True).stdout  # noqa: S603


def score_at_half(engine: Engine, labelled: LabelledSet, name: str) -> AtHalf:
    label_set = LabelSet.of(*labelled.labels, name=labelled.name)
    scores = probabilities(engine.logits(labelled.texts, label_set), label_set)
    truth = np.zeros(scores.shape, dtype=bool)
    for row, labels in enumerate(labelled.targets):
        truth[row, list(labels)] = True
    reached = scores >= 0.5
    right = int((reached & truth).sum())
    return AtHalf(
        contender=name,
        name=labelled.name,
        precision=right / max(1, int(reached.sum())),
        recall=right / int(truth.sum()),
        f1=2 * right / int(reached.sum() + truth.sum()),
        calibration_error=reliability(scores, truth).error,
    )


def show_at_half(rows: Sequence[AtHalf], names: Sequence[str], console: Console) -> None:
    table = Table(title="at the threshold 0.5: precision, recall, F1, expected calibration error")
    for heading in ("set", *names):
        table.add_column(heading, justify="left" if heading == "set" else "right")
    for start in range(0, len(rows), len(names)):
        row = rows[start : start + len(names)]
        table.add_row(row[0].name, *(_at_half_cell([each]) for each in row))
    table.add_row("mean", *(_at_half_cell([each for each in rows if each.contender == name]) for name in names))
    console.print(table)


def _at_half_cell(rows: Sequence[AtHalf]) -> str:
    measures = ("precision", "recall", "f1", "calibration_error")
    means = [statistics.mean(getattr(each, measure) for each in rows) for measure in measures]
    return ", ".join(f"{mean:.3f}" for mean in means)


def show(scores: Sequence[Score], names: Sequence[str], console: Console) -> None:
    table = Table(title="macro-F1 of the best label, on sets that were not trained on (texts/s)")
    for heading in ("set", "labels", "texts", *names):
        table.add_column(heading, justify="left" if heading == "set" else "right")
    for start in range(0, len(scores), len(names)):
        row = scores[start : start + len(names)]
        cells = [f"{each.macro_f1:.3f} ({each.texts_per_s:.0f})" for each in row]
        table.add_row(row[0].name, str(row[0].labels), str(row[0].rows), *cells)
    means = [statistics.mean(each.macro_f1 for each in scores if each.contender == name) for name in names]
    table.add_row("mean", "", "", *(f"{mean:.3f}" for mean in means))
    console.print(table)


if __name__ == "__main__":
    main()
