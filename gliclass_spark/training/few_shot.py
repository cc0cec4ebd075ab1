"""A model fitted to one label set by a few examples of each label."""

from __future__ import annotations

import tempfile
from pathlib import Path

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.inference.engine import Engine
from gliclass_spark.model.checkpoint import load
from gliclass_spark.training.data.batches import SamplingConfig
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.supervised import TrainingConfig, train

_TEXTS = 32
# Each example is seen about this often, within these limits.
_EPOCHS = 8
_STEPS = (30, 100)
# A few dozen texts of two or three labels can mislead. The average with what the model was gives up a little of what
# many labels gain, to lose less there; it does not undo it: see tweet_offensive in benchmarks/results/few_shot.json.
_START_SHARE = 0.3


def few_shot_config(examples: LabelledSet, seed: int) -> TrainingConfig:
    """Every question asks all labels, of these texts alone; so many steps that each text comes round some times."""
    labels = len(examples.labels)
    steps = min(max(len(examples) * _EPOCHS // _TEXTS, _STEPS[0]), _STEPS[1])
    return TrainingConfig(
        steps=steps,
        question=SamplingConfig(_TEXTS, min_labels=labels, max_labels=labels, foreign_share=0.0),
        encoder_lr=5e-5,
        head_lr=5e-4,
        start_share=_START_SHARE,
        save_steps=steps,
        seed=seed,
    )


def fit_few_shot(model: ModelRef, examples: LabelledSet, seed: int) -> Engine:
    """The model behind a training on the examples; nothing of it stays on the disk."""
    loaded = load(model)
    with tempfile.TemporaryDirectory() as folder:
        place = train(loaded.model, loaded.tokenizer, [examples], few_shot_config(examples, seed), Path(folder))
        return Engine.from_pretrained(str(place))
