"""Few-shot training: a model trained on a few examples of each label of one label set."""

from __future__ import annotations

import tempfile
from pathlib import Path

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.config.training import SamplingConfig, TrainingConfig
from gliclass_spark.inference.engine import Engine
from gliclass_spark.model.checkpoint import load
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.supervised import train

_BATCH_TEXTS = 32
# Each example is seen about this often, within these limits of steps.
_EPOCHS = 8
_MIN_STEPS, _MAX_STEPS = 30, 100
# A few dozen texts of two or three labels can mislead. Averaging with the starting weights gives up a little of the
# gain on many labels to lose less there; it does not undo it: see tweet_offensive in benchmarks/results/few_shot.json.
_START_WEIGHT_SHARE = 0.3


def few_shot_config(examples: LabelledSet, seed: int) -> TrainingConfig:
    """Return the configuration for these examples: all of their labels in each batch, and none of other sets."""
    label_count = len(examples.labels)
    steps = min(max(len(examples) * _EPOCHS // _BATCH_TEXTS, _MIN_STEPS), _MAX_STEPS)
    return TrainingConfig(
        steps=steps,
        sampling=SamplingConfig(texts=_BATCH_TEXTS, min_labels=label_count, max_labels=label_count, negative_share=0.0),
        encoder_lr=5e-5,
        head_lr=5e-4,
        start_weight_share=_START_WEIGHT_SHARE,
        save_steps=steps,
        seed=seed,
    )


def fit_few_shot(model: ModelRef, examples: LabelledSet, seed: int) -> Engine:
    """Return an engine of the model, trained on the examples; no file of it stays on the disk."""
    start = load(model)
    with tempfile.TemporaryDirectory() as folder:
        config = few_shot_config(examples, seed)
        checkpoint = train(start.model, start.tokenizer, [examples], config, Path(folder))
        return Engine.from_pretrained(str(checkpoint))
