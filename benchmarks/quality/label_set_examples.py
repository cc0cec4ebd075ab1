"""Examples in the label set of the embedded model, without a training: none, two, four and eight of each label.

    python -m benchmarks.quality.label_set_examples DATA [--draws 5] [--out FOLDER]

DATA is the folder of the zero-shot data: its `dev` has the sets of the report, and `train2_research` those that the
rule was chosen by (`few_shot_choice.SETS`); the model was trained on none of them. Examples are drawn from the train
split with several seeds; the texts that are evaluated are others. The rules differ in how many standard errors the gain
of n held-out examples must exceed.
"""

from __future__ import annotations

from gliclass_spark.inference.openmp import limit_spinning

limit_spinning()

# isort: split
import argparse
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product, repeat
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks import machine
from benchmarks.folders import RESULTS
from benchmarks.quality.default_threshold import measured as at_half
from benchmarks.quality.few_shot_choice import EVALUATED_TEXTS, SETS, FixedLogits, evaluated_and_others
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.inference.padding import pad, padded_batches
from gliclass_spark.inference.runners.prototypes import clear_standard_errors, with_prototypes
from gliclass_spark.labels import LabelSet
from gliclass_spark.model.architectures.label_cached import LabelCachedModel, LabelStates
from gliclass_spark.model.checkpoint import Checkpoint, load
from gliclass_spark.model.prompts.label_cached_tokenizer import LabelCachedTokenizer
from gliclass_spark.training.data.labelled_text import LabelledSet, few_shot, read_sets
from gliclass_spark.training.evaluation.evaluate import refuse_overlap, sample, score
from gliclass_spark.training.few_shot import without_contradictions

SHOTS = (2, 4, 8)
NONE = "none"
RULES: dict[str, Callable[[int], float]] = {
    "likeliest": lambda examples: 0.0,
    "2 errors": lambda examples: 2.0,
    "2 + 16/n errors": clear_standard_errors,
}
SHIPPED = [*RULES][-1]
DEV, TO_CHOOSE_BY = "report", "to choose by"
MAX_TOKENS = 256
BATCH_TOKENS = 4096
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Measured:
    """One draw of a set. F1 and calibration error at the threshold 0.5: see `default_threshold.Measures`."""

    sets: str
    name: str
    shots: int
    draw: int
    rule: str
    macro_f1: float
    f1_at_half: float
    calibration_error: float


class TextVectors:
    """Vectors of texts, each encoded once."""

    def __init__(self, model: LabelCachedModel, tokenizer: LabelCachedTokenizer) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._known: dict[str, Tensor] = {}

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return vectors (texts, hidden) of length 1."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        prompt = self._tokenizer.prompt(LabelSet.of("any"))
        [frame] = prompt.frames
        inputs = [frame.input_ids(ids[:MAX_TOKENS]) for ids in self._tokenizer.text_ids(new, repeat(prompt))]
        for batch, input_ids, mask, _ in padded_batches(inputs, BATCH_TOKENS, 0, CPU):
            vectors = self._model.text_vectors(input_ids, mask)
            self._known |= {new[position]: vectors[row] for row, position in enumerate(batch.positions)}
        return torch.stack([self._known[text] for text in texts])

    @torch.inference_mode()
    def labels(self, labels: Sequence[str]) -> LabelStates:
        ids = [self._tokenizer.label_ids(label) for label in labels]
        return self._model.label_states(*pad(ids, max(map(len, ids)), 0, CPU))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("gliclass_spark").setLevel(logging.ERROR)  # each example set without an effect is a warning
    model = resolve_model("embedded")
    measured = list(measure(load(model), options.data, options.draws))
    document = {"model": model.digest, "machine": machine.describe(), "rows": summaries(measured)}
    path = options.out / "label_set_examples.json"
    text = json.dumps(document, indent=1).removesuffix("\n}")
    draws = ",\n".join(json.dumps(asdict(each)) for each in measured)  # a line each
    path.write_text(f'{text},\n "measured": [\n{draws}\n]}}\n', encoding="utf-8")
    show(document["rows"], measured, Console(width=150))
    print(f"written to {path}")


def measure(checkpoint: Checkpoint, data: Path, draws: int) -> Iterator[Measured]:
    model = checkpoint.model.requires_grad_(False)
    vectors = TextVectors(model, LabelCachedTokenizer(checkpoint.tokenizer, MAX_TOKENS + 2))
    for sets, evaluated, example_set in evaluated_sets(data):
        for shots, draw, rule, states in label_states(vectors, float(model.logit_scale), example_set, draws):
            logits = model.logits(vectors(evaluated.texts), states).numpy()
            f1 = score(FixedLogits(evaluated.texts, logits), evaluated, name=rule).macro_f1
            half = at_half(logits.astype(np.float64), evaluated)
            yield Measured(sets, evaluated.name, shots, draw, rule, f1, half.f1, half.calibration_error)
        print(f"{evaluated.name}: {draws} draws", flush=True)


def label_states(
    vectors: TextVectors, logit_scale: float, example_set: LabelledSet, draws: int
) -> Iterator[tuple[int, int, str, LabelStates]]:
    """Yield number and draw of the examples, the rule, and the label states with these examples by this rule."""
    labels = vectors.labels(example_set.labels)
    yield 0, 0, NONE, labels
    for draw, shots in product(range(draws), SHOTS):
        examples = without_contradictions(few_shot(example_set, shots, draw))
        has_label = torch.zeros(len(examples), len(examples.labels), dtype=torch.bool)
        for row, own_labels in enumerate(examples.targets):
            has_label[row, list(own_labels)] = True
        texts = vectors(examples.texts)
        for rule, errors in RULES.items():
            yield shots, draw, rule, with_prototypes(labels, texts, has_label, logit_scale, standard_errors=errors)


def evaluated_sets(data: Path) -> Iterator[tuple[str, LabelledSet, LabelledSet]]:
    """Yield the group of each set, texts to evaluate on, and those that examples are drawn from."""
    for test, train in zip(read_sets(data / "dev", "test"), read_sets(data / "dev", "train"), strict=True):
        evaluated = sample(test, EVALUATED_TEXTS)
        refuse_overlap(evaluated, train)
        yield DEV, evaluated, train
    for name in SETS:
        yield TO_CHOOSE_BY, *evaluated_and_others(data / "train2_research" / f"{name}.parquet")


def summaries(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Return a row for each group of sets, number of examples and rule, with the means over the draws of each set."""
    keys = dict.fromkeys((each.sets, each.shots, each.rule) for each in measured)
    return [summary([each for each in measured if (each.sets, each.shots, each.rule) == key], measured) for key in keys]


def summary(rows: Sequence[Measured], measured: Sequence[Measured]) -> dict[str, Any]:
    before = {each.name: each.macro_f1 for each in measured if each.rule == NONE}
    means = {name: fmean(each.macro_f1 for each in rows if each.name == name) for name in {each.name for each in rows}}
    changes = {name: mean - before[name] for name, mean in means.items()}
    worst = min(changes, key=lambda name: changes[name])
    first = rows[0]
    return {
        "sets": first.sets,
        "examples": first.shots,
        "rule": first.rule,
        "macro_f1": fmean(means.values()),
        "gain_percent": 100 * (fmean(means.values()) / fmean(before[name] for name in means) - 1),
        "worst": worst,
        "worst_change": changes[worst],
        "lose_more_than_.01": sum(change < -0.01 for change in changes.values()),
        "f1_at_half": fmean(each.f1_at_half for each in rows),
        "calibration_error": fmean(each.calibration_error for each in rows),
    }


def show(rows: Sequence[dict[str, Any]], measured: Sequence[Measured], console: Console) -> None:
    table = Table(title="examples of each label in the label set: macro-F1 of the best label, means of the draws")
    for name in rows[0]:
        table.add_column(name.replace("_", " "), justify="left" if name in ("sets", "rule", "worst") else "right")
    for row in rows:
        table.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row.values()))
    console.print(table)
    by_set = Table(title=f"by set, {SHIPPED}")
    for name in ("set", "none", *(f"{shots} examples" for shots in SHOTS)):
        by_set.add_column(name, justify="left" if name == "set" else "right")
    for name in dict.fromkeys(each.name for each in measured):
        own = [each for each in measured if each.name == name and each.rule in (NONE, SHIPPED)]
        cells = (fmean(each.macro_f1 for each in own if each.shots == shots) for shots in (0, *SHOTS))
        by_set.add_row(name, *(f"{cell:.3f}" for cell in cells))
    console.print(by_set)


if __name__ == "__main__":
    main()
