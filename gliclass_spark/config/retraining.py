"""The files of conf/retrain: what a pipeline's model learns from, how, and what a candidate must reach."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator, model_validator

from gliclass_spark import yaml_loader
from gliclass_spark.config.model_uri import CHAMPION, REGISTERED, registered_model
from gliclass_spark.config.paths import ConfigPath, has_scheme, resolve_path
from gliclass_spark.config.pipeline import EMBEDDED_MODEL, Pipeline, Share
from gliclass_spark.config.schedule import RetrainSchedule
from gliclass_spark.errors import ConfigError, GliclassSparkError, describe_validation

RetrainingStep = Literal["snapshot", "supervised", "ppo", "calibrate", "gate", "promote"]
# In the order in which they run.
RETRAINING_STEPS: tuple[RetrainingStep, ...] = ("snapshot", "supervised", "ppo", "calibrate", "gate", "promote")

_STRICT = ConfigDict(extra="forbid", frozen=True)
Weight = Annotated[float, Field(ge=0.0)]
Rate = Annotated[float, Field(gt=0.0)]


class Supervised(BaseModel):
    """Learning from what is known about labels.

    A step asks one question about `texts` texts. `replay_share` of the questions are about the sets under
    `replay`, so that other labels aren't forgotten. An answer about a label that was rarely given counts
    for more, by the inverse of its propensity, up to `max_weight`.
    """

    model_config = _STRICT

    steps: int = Field(default=200, ge=1)
    texts: int = Field(default=32, ge=1)
    encoder_lr: Rate = 2e-5
    head_lr: Rate = 2e-4
    replay_share: Share = 0.5
    max_weight: float = Field(default=10.0, ge=1.0)
    max_text_tokens: int = Field(default=256, ge=8)


class RewardWeights(BaseModel):
    """The parts of a text's reward where its labels are known; they are weighed by their share of the sum."""

    model_config = _STRICT

    f1: Weight = 1.0
    recall: Weight = 0.0
    precision: Weight = 0.0
    accuracy: Weight = 0.0

    @model_validator(mode="after")
    def _something(self) -> RewardWeights:
        if not (self.f1 or self.recall or self.precision or self.accuracy):
            raise ValueError("gives no part a weight above 0; a reward that is always 0 teaches nothing")
        return self


class Ppo(BaseModel):
    """PPO for multi-label classification (arXiv 2508.07662), see `training.ppo`.

    Actions are drawn once for a step and replayed in its `epochs`. A weight of 0 switches a term off.
    `logged_share` of the steps learn from rewards of decisions that were made, where there are any; the
    others from known labels. `max_weight` bounds the importance weight of a logged decision. `actions`:
    labels are drawn ("sample"), or taken where they pass their threshold.
    """

    model_config = _STRICT

    steps: int = Field(default=100, ge=1)
    texts: int = Field(default=32, ge=1)
    epochs: int = Field(default=3, ge=1)
    clip_ratio: float = Field(default=0.2, gt=0.0, lt=1.0)
    value_weight: Weight = 0.5
    kl_weight: Weight = 0.1
    entropy_weight: Weight = 0.001
    focal_gamma: Weight = 0.0
    focal_alpha: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    label_smoothing: Share = 0.0
    encoder_lr: Rate = 1e-5
    head_lr: Rate = 1e-4
    value_lr: Rate = 1e-2
    actions: Literal["sample", "threshold"] = "sample"
    reward: RewardWeights = RewardWeights()
    logged_share: Share = 0.5
    max_weight: float = Field(default=10.0, ge=1.0)
    max_text_tokens: int = Field(default=256, ge=8)
    save_steps: int = Field(default=25, ge=1)


class GateRules(BaseModel):
    """What a candidate must reach beside the champion, on texts that neither has learned from.

    min_f1_gain: of macro-F1, at the lower end of its 95% confidence interval; a little below 0 lets a
    candidate pass that is as good within chance. max_label_loss: how much F1 a single label may lose,
    among those with `min_label_texts` texts at least. max_calibration_loss: how much the expected
    calibration error may grow. max_slowdown: the champion's texts/s over the candidate's. min_agreement:
    the share of texts that both give the same labels. max_forgetting: how much macro-F1 may be lost on a set of
    `remembered`.
    """

    model_config = _STRICT

    min_f1_gain: float = Field(default=-0.01, ge=-1.0, le=1.0)
    max_label_loss: Share = 0.1
    min_label_texts: int = Field(default=10, ge=1)
    max_calibration_loss: Share = 0.05
    max_slowdown: float = Field(default=1.5, gt=0.0)
    min_agreement: Share = 0.0
    max_forgetting: Share = 0.05


class RetrainConfig(BaseModel):
    """One file of conf/retrain.

    `pipeline` is the pipeline whose decisions are learned from; its model must be models:/NAME@champion, so that
    a promotion reaches it. `golden` is a table of texts with their
    labels that nothing is ever trained on; `replay` tables of earlier data, so that it isn't forgotten, and
    `remembered` tables of any other labels, never trained on, that tell what was forgotten all the same.
    `holdout_share` of the documents with feedback, those first told about last, are kept for the gate. Below
    `min_decisions` judged or rewarded decisions nothing is trained; Airflow waits for `min_new_signals` more
    than the last retraining had, too. `registry` is an MLflow tracking URI,
    MLFLOW_TRACKING_URI unless it says otherwise. `work` is where snapshots and checkpoints go. With `ppo:
    null` the supervised candidate goes to the gate. `airflow` says when Airflow does it; without, it does not.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    pipeline: Pipeline
    pipeline_file: Path = Path()
    golden: ConfigPath
    replay: tuple[ConfigPath, ...] = ()
    remembered: tuple[ConfigPath, ...] = ()
    work: ConfigPath
    registry: str | None = None
    holdout_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    min_decisions: int = Field(default=100, ge=1)
    min_new_signals: int = Field(default=1, ge=0)
    supervised: Supervised = Supervised()
    ppo: Ppo | None = Ppo()
    gate: GateRules = GateRules()
    seed: int = 0
    airflow: RetrainSchedule | None = None

    @classmethod
    def from_yaml(cls, path: str | Path) -> RetrainConfig:
        """Read the file and the pipeline that it names. Raises ConfigError that names file, key and mend."""
        document = yaml_loader.load(path)
        try:
            return cls.model_validate(document, context={"folder": Path(path).absolute().parent})
        except ValidationError as error:
            raise ConfigError(describe_validation(error, str(path))) from None
        except GliclassSparkError as error:
            raise type(error)(f"{path}: {error}") from None

    @model_validator(mode="before")
    @classmethod
    def _read_pipeline(cls, document: Any, info: ValidationInfo) -> Any:
        if not isinstance(document, dict) or not isinstance(document.get("pipeline"), str):
            raise ValueError("needs the key 'pipeline': the file of the pipeline whose model is retrained")
        if "pipeline_file" in document:
            raise ValueError("'pipeline_file' is no key of this file; write the file's path under 'pipeline'")
        file = Path(resolve_path(document["pipeline"], info))
        return {**document, "pipeline": Pipeline.from_yaml(file), "pipeline_file": file}

    @field_validator("pipeline")
    @classmethod
    def _follows_its_champion(cls, pipeline: Pipeline) -> Pipeline:
        if not (pipeline.model.startswith(REGISTERED) and pipeline.model.endswith(f"@{CHAMPION}")):
            raise ValueError(
                f"the pipeline's model is {pipeline.model!r}, which a promotion would not change; write model: "
                f"{REGISTERED}{pipeline.name}@{CHAMPION} there, and name the first champion: "
                f"gliclass-spark register {pipeline.name} {EMBEDDED_MODEL}"
            )
        return pipeline

    @property
    def model_name(self) -> str:
        """What the registry calls the model."""
        return registered_model(self.pipeline.model)[0]

    def run_folder(self, run_id: str) -> Path:
        """Return the folder of one retraining: its snapshot, checkpoints and outcomes."""
        return Path(self.work) / quote(run_id, safe="+:@=")

    @field_validator("work", "golden", "replay", "remembered")
    @classmethod
    def _local(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for address in [value] if isinstance(value, str) else value:
            if has_scheme(address):
                raise ValueError(f"{address!r} is no path of the training machine; mount it, or copy it there")
        return value
