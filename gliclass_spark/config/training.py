"""Training configuration: the files of conf/train, which `gliclass-spark train --config` takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from gliclass_spark import yaml_loader
from gliclass_spark.config.pipeline import Share
from gliclass_spark.errors import ConfigError, describe_validation

Attention = Literal["joint", "label-cached", "bi-encoder"]
Rate = Annotated[float, Field(ge=0.0)]
Weight = Annotated[float, Field(ge=0.0)]

_STRICT = ConfigDict(extra="forbid", frozen=True)


class SamplingConfig(BaseModel):
    """How batches are drawn from labelled sets. Each batch has texts of one set, and labels of its own."""

    model_config = _STRICT

    texts: int = Field(default=32, ge=1)
    """Texts of a batch."""
    min_labels: int = Field(default=4, ge=2)
    """Fewest labels of a batch."""
    max_labels: int = Field(default=100, ge=2)
    """Most labels of a batch; their number is drawn log-uniformly between the two."""
    negative_share: Share = 0.15
    """Share of a batch's labels that are taken from other sets, as negatives."""
    same_source_share: Share = 0.0
    """Share of the batches of a set with sources whose texts and labels are from one source: harder negatives."""
    joined_share: Share = 0.0
    """Share of the texts that are two texts of the batch joined, with the labels of both."""
    reworded_share: Share = 0.0
    """Share of the batches whose labels are put into a template ("this text is about {}") and spelled another way."""
    full_window_share: Share = 0.0
    """Share of the batches whose texts are truncated at the model's window alone, not at `max_text_tokens`."""
    size_power: Share = 0.5
    """Sets are drawn in proportion to their size to this power: 0 draws all sets alike, 1 all texts."""

    @model_validator(mode="after")
    def _label_counts_are_ordered(self) -> SamplingConfig:
        if self.min_labels > self.max_labels:
            raise ValueError(f"min_labels {self.min_labels} is above max_labels {self.max_labels}; raise max_labels")
        return self


class HeadFallback(BaseModel):
    """Training of the head of a label-cached model alone, where another one has no clear gain on held-out examples."""

    model_config = _STRICT

    steps: int = Field(default=60, ge=1)
    """Optimizer steps, each on all examples."""
    head_lr: Rate = 1e-3
    """Peak learning rate of the projections."""
    start_weight_penalty: Weight = 3200.0
    """Weight w of the squared distance to the starting weights in the loss: of n examples it counts w / n^2."""


class TrainingConfig(BaseModel):
    """Supervised training. Learning rates are peaks of a linear warm-up and decay over all steps."""

    model_config = _STRICT

    attention: Attention = "bi-encoder"
    """How the fresh model of `--model encoder` combines text and labels; other models keep their own way."""
    steps: int = Field(default=1000, ge=1)
    """Optimizer steps."""
    gradient_accumulation_steps: int = Field(default=1, ge=1)
    """Batches of a step."""
    sampling: SamplingConfig = SamplingConfig()
    """How batches are drawn."""
    encoder_lr: Rate = 3e-5
    """Peak learning rate of the encoder. With 0 it stays as it is."""
    head_lr: Rate = 3e-4
    """Peak learning rate of projections and scorer."""
    scalar_lr: Rate = 1e-2
    """Peak learning rate of the parameters that are single numbers: logit scale and offset, biases of heads."""
    weight_decay: Weight = 0.01
    """Weight decay of AdamW; vectors and single numbers have none."""
    warmup_share: Share = 0.05
    """Share of the steps in which the learning rates rise."""
    focal_weight: Weight = 1.0
    """Weight of the focal loss, of each label alone, beside the softmax loss over a text's labels."""
    focal_alpha: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Focal weight of true labels, 1 - focal_alpha that of false ones; null weighs both alike."""
    focal_gamma: Weight = 2.0
    """Focal exponent: lowers the weight of labels that are already scored well."""
    label_smoothing: Share = 0.0
    """Share s of label smoothing in the focal loss: a target y becomes y (1 - s) + s / 2."""
    lora_rank: int | None = Field(default=None, ge=1)
    """Rank of low-rank adapters (LoRA, arXiv 2106.09685), trained instead of the encoder and merged at the end."""
    ema_decay: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Decay of each step in an exponential moving average of the weights, which is saved in place of the last ones."""
    start_weight_share: Share = 0.0
    """Share of the starting weights in the weight average that is saved (WiSE-FT, arXiv 2109.01903)."""
    start_weight_penalty: Weight = 0.0
    """Weight w of the squared distance to the starting weights in the loss (L2-SP, arXiv 1802.01483): of n examples it
    counts w / n^2, so that a few move the model a little. For the training of the head alone, with encoder_lr 0."""
    start_weight_examples: Annotated[float, Field(gt=0.0)] | None = None
    """Number of examples c that the starting weights count for: of n examples, start_weight_share is c / (n + c)."""
    start_weight_folds: int | None = Field(default=None, ge=2)
    """Folds of the examples that are held out in turn, to choose start_weight_share by the gain in their likelihood,
    two standard errors below its mean; 1 if no gain exceeds 2 + 32 / n of them. With start_weight_examples, it is at
    least c / (n + c). With 2 folds the training takes twice as long."""
    head_fallback: HeadFallback | None = None
    """What to train where start_weight_folds show no clear gain: the head alone, of a label-cached model and one set,
    if examples that are held out of its training become likelier in the mean; with start_weight_examples, averaged with
    the starting weights alike. Null leaves the weights as they were."""
    max_text_tokens: int = Field(default=128, ge=8)
    """Longer texts are truncated."""
    save_steps: int = Field(default=250, ge=1)
    """Steps between checkpoints."""
    seed: int = 0
    """Seed of the batches."""

    @model_validator(mode="after")
    def _one_share_of_the_start(self) -> TrainingConfig:
        for name in ("start_weight_examples", "start_weight_folds"):
            if self.start_weight_share and getattr(self, name) is not None:
                raise ValueError(
                    f"start_weight_share {self.start_weight_share:g} and {name} {getattr(self, name):g} both set the "
                    "share of the starting weights; remove one"
                )
        return self

    @model_validator(mode="after")
    def _fallback_has_held_out_examples(self) -> TrainingConfig:
        if self.head_fallback is not None and self.start_weight_folds is None:
            raise ValueError("head_fallback needs held-out examples to decide on it; add start_weight_folds: 2")
        return self

    @classmethod
    def from_yaml(cls, path: str | Path) -> TrainingConfig:
        """Return the configuration in a file. Raises ConfigError with the file, the key and the fix."""
        try:
            return cls.model_validate(yaml_loader.load(path))
        except ValidationError as error:
            raise ConfigError(describe_validation(error, str(path))) from None
