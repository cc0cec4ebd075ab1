"""Few-shot training: a model trained on a few examples of each label of one label set."""

from __future__ import annotations

import math
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.config.training import HeadFallback, SamplingConfig, TrainingConfig
from gliclass_spark.errors import TrainingError
from gliclass_spark.inference.engine import Engine
from gliclass_spark.model.checkpoint import load
from gliclass_spark.training.data.labelled_text import LabelledSet, normalized_text
from gliclass_spark.training.supervised import train

# Of the training of the head alone: chosen on sets to train on, `python -m benchmarks.quality.few_shot --choose`.
START_WEIGHT_PENALTY = 3200.0
HEAD_FALLBACK = HeadFallback(steps=60, head_lr=1e-3, start_weight_penalty=START_WEIGHT_PENALTY)
# Each example is seen about this often, within these limits of steps.
_BATCH_TEXTS = 32
_EPOCHS = 8
_MIN_STEPS, _MAX_STEPS = 30, 100
# A few dozen texts can mislead: how far the trained weights count is chosen by examples that are held out in turn. The
# choice has an error of its own, so that the weights before count like some examples in any case. Both chosen on sets
# that were not trained on, `python -m benchmarks.quality.few_shot --choose`.
START_WEIGHT_FOLDS = 2
START_WEIGHT_EXAMPLES = 16.0
# With so many, held-out examples show a gain of a tenth of a nat each by two standard errors (few_shot.py --choose).
ENOUGH_EXAMPLES = 100
_MAX_SHOWN_CHARS = 40
_MAX_LISTED = 5


def few_shot_config(examples: LabelledSet, seed: int) -> TrainingConfig:
    """Return the configuration for these examples: all of their labels in each batch, and none of other sets."""
    label_count = len(examples.labels)
    steps = min(max(len(examples) * _EPOCHS // _BATCH_TEXTS, _MIN_STEPS), _MAX_STEPS)
    return TrainingConfig(
        steps=steps,
        sampling=SamplingConfig(texts=_BATCH_TEXTS, min_labels=label_count, max_labels=label_count, negative_share=0.0),
        encoder_lr=5e-5,
        head_lr=5e-4,
        start_weight_folds=START_WEIGHT_FOLDS,
        start_weight_examples=START_WEIGHT_EXAMPLES,
        head_fallback=HEAD_FALLBACK,
        save_steps=steps,
        seed=seed,
    )


def head_config() -> TrainingConfig:
    """Return the configuration that trains the head of a label-cached model alone, in seconds."""
    return TrainingConfig(encoder_lr=0.0, **HEAD_FALLBACK.model_dump())


def fit_few_shot(model: ModelRef, examples: LabelledSet, seed: int, config: TrainingConfig | None = None) -> Engine:
    """Return an engine of the model, trained on the examples; no file of it stays on the disk.

    config: None for `few_shot_config`. Raises TrainingError if fewer than two labels have an example.
    """
    usable = without_contradictions(examples)
    start = load(model)
    with tempfile.TemporaryDirectory() as folder:
        settings = config or few_shot_config(usable, seed)
        checkpoint = train(start.model, start.tokenizer, [usable], settings, Path(folder))
        return Engine.from_pretrained(str(checkpoint))


def contradictions(examples: LabelledSet) -> frozenset[int]:
    """Return the positions of texts that are there several times with different labels, up to white space and case."""
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, text in enumerate(examples.texts):
        rows[normalized_text(text)].append(row)
    different = (same for same in rows.values() if len({frozenset(examples.targets[row]) for row in same}) > 1)
    return frozenset(row for same in different for row in same)


def without_contradictions(examples: LabelledSet) -> LabelledSet:
    """Return the examples without those that contradict each other.

    Raises TrainingError if fewer than two labels have an example left.
    """
    contradicting = contradictions(examples)
    usable = examples.rows(row for row in range(len(examples)) if row not in contradicting)
    labels = sum(bool(rows) for rows in usable.by_label())
    if labels < 2:
        left_out = f", without {len(contradicting)} that contradict each other" if contradicting else ""
        raise TrainingError(
            f"{examples.name} has examples of {labels} label(s){left_out}: there is nothing to tell apart; give some "
            "of at least two labels"
        )
    return usable


def notes(examples: LabelledSet) -> Iterator[str]:
    """Yield what to know of a training on these examples, a line each: contradictions, missing ones, too few."""
    contradicting = sorted(contradictions(examples))
    if contradicting:
        text = normalized_text(examples.texts[contradicting[0]])
        same = [row for row in contradicting if normalized_text(examples.texts[row]) == text]
        labels = dict.fromkeys(", ".join(examples.labels[label] for label in examples.targets[row]) for row in same)
        yield (
            f"{examples.name}: {len(contradicting)} examples contradict each other and are left out; "
            f"{examples.texts[contradicting[0]][:_MAX_SHOWN_CHARS]!r} has the labels {' and '.join(labels)}: "
            "give each text its labels once"
        )
    missing = [label for label, rows in zip(examples.labels, examples.by_label(), strict=True) if not rows]
    if missing:
        more = ", ..." if len(missing) > _MAX_LISTED else ""
        yield (
            f"{examples.name}: {len(missing)} of {len(examples.labels)} labels have no example, so the training knows "
            f"at most what they are not: {', '.join(missing[:_MAX_LISTED])}{more}"
        )
    count = len(examples) - len(contradicting)
    if count < ENOUGH_EXAMPLES:
        yield (
            f"{examples.name}: {count} examples may help or not: evaluate before and after, or give about "
            f"{ENOUGH_EXAMPLES}, {math.ceil(ENOUGH_EXAMPLES / len(examples.labels))} of each label"
        )
