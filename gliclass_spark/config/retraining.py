"""Retraining configuration: the files of conf/retrain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args
from urllib.parse import quote

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from gliclass_spark import yaml_loader
from gliclass_spark.config.catalog import check_readable
from gliclass_spark.config.model_uri import CHAMPION, REGISTERED, registered_model
from gliclass_spark.config.paths import ConfigPath, has_scheme, refuse_secrets, resolve_path
from gliclass_spark.config.pipeline import EMBEDDED_MODEL, Pipeline, Share
from gliclass_spark.config.schedule import RetrainSchedule
from gliclass_spark.errors import ConfigError, GliclassSparkError, describe_validation

RetrainingStep = Literal[
    "snapshot", "champion_check", "check_feedback", "supervised", "ppo", "calibrate", "gate", "promote"
]
# In the order in which they run, whoever runs them: the command, an operator or a DAG.
RETRAINING_STEPS: tuple[RetrainingStep, ...] = get_args(RetrainingStep)

Weight = Annotated[float, Field(ge=0.0)]
Rate = Annotated[float, Field(gt=0.0)]
NotGiven = Literal["zero", "unknown"]
Resolve = Literal["newest", "majority"]

_STRICT = ConfigDict(extra="forbid", frozen=True)
_RENAMED_KEYS = {"remembered": "retention"}
_CAUTIOUS = {"min_f1_gain": -0.02, "max_label_loss": 0.05, "max_reward_loss": 0.0}


class FeedbackRules(BaseModel):
    """How several signals on one decision are joined."""

    model_config = _STRICT

    resolve: Resolve = "newest"
    """Which explicit verdicts count where sources disagree about a label of a text. "newest": the latest. "majority":
    what most sources say, each by its latest verdict; in a tie the latest of all."""


class Supervised(BaseModel):
    """Supervised training on judged labels."""

    model_config = _STRICT

    steps: int = Field(default=200, ge=1)
    """Optimizer steps, one batch each."""
    passes: Annotated[float, Field(gt=0.0)] | None = None
    """Instead of `steps`: how many times each judged document is read, on average. null: `steps` decides."""
    texts: int = Field(default=32, ge=1)
    """Texts of a batch."""
    encoder_lr: Rate = 2e-5
    """Peak learning rate of the encoder."""
    head_lr: Rate = 2e-4
    """Peak learning rate of projections and scorer."""
    replay_share: Share = 0.5
    """Share of the batches that are drawn from the sets under `replay`, so that other labels aren't forgotten."""
    max_weight: Annotated[float, Field(ge=1.0)] | None = 1.0
    """Upper bound of a judgement's weight by the inverse propensity of the judged decision. 1: all weigh alike, apart
    from the size of their rewards, which learns most in `benchmarks/feedback/learning_from_rewards.py`. null: the
    largest bound that leaves a twentieth of the judgements effective."""
    max_text_tokens: int = Field(default=256, ge=8)
    """Longer texts are truncated."""

    def step_count(self, documents: int, is_replaying: bool) -> int:
        """Return the number of steps for this many judged documents: `steps`, or those that make `passes`."""
        if self.passes is None or not documents:
            return self.steps
        return max(round(self.passes * documents / self.documents_of_step(documents, is_replaying)), 1)

    def documents_of_step(self, documents: int, is_replaying: bool) -> float:
        """Return how many of the judged documents a step reads, on average: the batches of replayed sets read none."""
        return min(self.texts, documents) * (1.0 - self.replay_share if is_replaying else 1.0)

    @model_validator(mode="after")
    def _has_steps_or_passes(self) -> Supervised:
        if self.passes is not None and "steps" in self.model_fields_set:
            raise ValueError("has both 'steps' and 'passes', which are two ways to say how long to train; keep one")
        if self.passes is not None and self.replay_share == 1.0:
            raise ValueError("'passes' are over judged documents, and with replay_share: 1 none is read; write 'steps'")
        return self


class RewardWeights(BaseModel):
    """Weights of the parts of a text's reward where its labels are known, normalized by their sum."""

    model_config = _STRICT

    f1: Weight = 1.0
    """Weight of F1."""
    recall: Weight = 0.0
    """Weight of recall."""
    precision: Weight = 0.0
    """Weight of precision."""
    accuracy: Weight = 0.0
    """Weight of accuracy."""

    @model_validator(mode="after")
    def _some_weight_is_positive(self) -> RewardWeights:
        if not (self.f1 or self.recall or self.precision or self.accuracy):
            raise ValueError("has no weight above 0, so that every reward would be 0; set one, as f1: 1")
        return self


class Ppo(BaseModel):
    """PPO for multi-label classification (arXiv 2508.07662), see `training.reinforcement.ppo`.

    A weight of 0 removes its term.
    """

    model_config = _STRICT

    steps: int = Field(default=100, ge=1)
    """Rollouts: one batch of actions each."""
    texts: int = Field(default=32, ge=1)
    """Texts of a batch."""
    epochs: int = Field(default=3, ge=1)
    """Updates with the same actions."""
    clip_ratio: float = Field(default=0.2, gt=0.0, lt=1.0)
    """The probability ratio is clipped to [1 - clip_ratio, 1 + clip_ratio]."""
    value_weight: Weight = 0.5
    """Weight of the value loss."""
    kl_weight: Weight = 0.1
    """Weight of the KL divergence from the supervised candidate."""
    entropy_weight: Weight = 0.001
    """Weight of the entropy bonus."""
    focal_gamma: Weight = 0.0
    """Focal exponent: lowers the weight of actions that the policy is already certain of."""
    focal_alpha: Annotated[float, Field(gt=0.0, lt=1.0)] | None = None
    """Weight of positive actions, 1 - focal_alpha that of negative ones; null weighs both alike."""
    label_smoothing: Share = 0.0
    """Smooths the actions in the log-probabilities."""
    encoder_lr: Rate = 1e-5
    """Learning rate of the encoder at the first step; it decays linearly to 0."""
    head_lr: Rate = 1e-4
    """Learning rate of projections and scorer."""
    value_lr: Rate = 1e-2
    """Learning rate of the value head."""
    actions: Literal["sample", "threshold"] = "sample"
    """"sample": Bernoulli draws from the label probabilities; "threshold": 1 from the label's threshold on."""
    reward: RewardWeights = RewardWeights()
    """Reward of a text whose labels are known."""
    logged_share: Share = 0.5
    """Share of the steps that replay logged decisions with their rewards; the others use judged labels."""
    not_given: NotGiven = "unknown"
    """Reward of a label that was not given, and has none. "zero": it is 0, as for clicks, which only given labels can
    earn; "unknown": the decision is left out. Where one action alone is ever rewarded, PPO compares it with a reward
    of 0, whichever it is."""
    max_weight: Annotated[float, Field(ge=1.0)] | None = None
    """Upper bound of the inverse propensity of a logged decision. null: the largest one that leaves a twentieth of the
    decisions effective."""
    max_text_tokens: int = Field(default=256, ge=8)
    """Longer texts are truncated."""
    save_steps: int = Field(default=25, ge=1)
    """Steps between checkpoints."""


class GateRules(BaseModel):
    """What a candidate must reach beside the champion, on texts that neither was trained on.

    In a file also the preset alone: `gate: cautious`.
    """

    model_config = _STRICT

    preset: Literal["normal", "cautious"] = "normal"
    """The defaults of the other keys. "normal" refuses a candidate on evidence that it is worse. "cautious" asks for
    evidence that it is not: `min_f1_gain: -0.02`, `max_label_loss: 0.05`, `max_reward_loss: 0`."""
    max_f1_loss: Share = 0.0
    """A candidate is refused if it is shown to lose more macro-F1 on the golden set than this: if the upper bound of
    its gain, at `confidence`, is below."""
    min_f1_gain: Annotated[float, Field(ge=-1.0, le=1.0)] | None = None
    """Gain in macro-F1 that must be shown: the lower bound of the gain, at `confidence`, must reach it. A little below
    0 accepts a candidate that is as good. null asks for none."""
    max_label_loss: Share = 0.1
    """A candidate is refused if a label of the golden set loses more F1 than this, and more than chance explains."""
    min_label_texts: int = Field(default=10, ge=1)
    """Labels with fewer texts are exempt from `max_label_loss`."""
    max_reward_loss: Share = 0.02
    """A candidate is refused if its reward per decision, or per document that has one reward for all of its labels,
    estimated on the newest feedback, is shown to be lower than the champion's by more than this."""
    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.95
    """Confidence of the bounds, each one-sided, and of the labels' losses together."""
    max_calibration_loss: Share = 0.05
    """Most that the expected calibration error may grow."""
    max_slowdown: float = Field(default=1.5, gt=0.0)
    """Most that the champion's texts/s may be over the candidate's."""
    min_agreement: Share = 0.0
    """Least share of texts to which both give the same labels."""
    max_forgetting: Share = 0.05
    """Most macro-F1 that may be lost on a set of `retention`."""
    shadow: bool = False
    """Whether a candidate that passes stays the challenger until a shadow run is recorded for it: `gliclass-spark
    shadow` tags with it beside the champion. Then `gliclass-spark promote`, or the step `promote` again, promotes."""

    @model_validator(mode="before")
    @classmethod
    def _fill_from_preset(cls, document: Any) -> Any:
        if isinstance(document, str):
            document = {"preset": document}
        if isinstance(document, dict) and document.get("preset") == "cautious":
            return {**_CAUTIOUS, **document}
        return document


class RollbackRules(BaseModel):
    """When a promoted champion is rolled back: feedback on its own decisions shows that it does harm.

    It is compared with the version that it replaced, by the gate's `max_reward_loss` and `confidence`.
    """

    model_config = _STRICT

    automatic: bool = True
    """Whether such a champion is rolled back; no version is twice. false: the harm is only reported."""
    min_effective_decisions: int = Field(default=30, ge=2)
    """Least effective sample size of the champion's decisions with feedback, on labels or on documents; with less,
    nothing is concluded."""


class RetrainConfig(BaseModel):
    """One file of conf/retrain."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    pipeline: Pipeline
    """The pipeline whose decisions are trained on; its model must be models:/NAME@champion, so that a promotion
    reaches it. The file has its path."""
    pipeline_file: Path = Path()
    """Path of the pipeline's file; no key of the file."""
    golden: ConfigPath
    """A table of texts with their labels that nothing is ever trained on."""
    replay: tuple[ConfigPath, ...] = ()
    """Tables of earlier data, trained on again so that it isn't forgotten."""
    retention: tuple[ConfigPath, ...] = ()
    """Tables of other labels, never trained on, to measure forgetting."""
    work: ConfigPath
    """Folder of snapshots and checkpoints."""
    registry: Annotated[str, AfterValidator(refuse_secrets)] | None = None
    """MLflow tracking URI; without it, MLFLOW_TRACKING_URI."""
    holdout_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.2
    """Share of the documents with feedback that is held out for the gate: those with the newest feedback."""
    max_source_share: Annotated[float, Field(gt=0.0, le=1.0)] | None = None
    """Most of the decisions that one source of feedback, a person or a system, may have a say in; more are left out,
    drawn by chance. null: all count."""
    feedback: FeedbackRules = FeedbackRules()
    """How several signals on one decision are joined."""
    min_decisions: int = Field(default=100, ge=1)
    """Least number of judged or rewarded decisions to train on."""
    min_new_signals: int = Field(default=1, ge=0)
    """Signals that Airflow waits for beyond those of the last retraining."""
    supervised: Supervised = Supervised()
    """Supervised training on judged labels."""
    ppo: Ppo | None = None
    """PPO training on rewards, after the supervised one. With null, the default, the supervised candidate goes to the
    gate: in `benchmarks/feedback/learning_from_rewards.py`, PPO on logged decisions learns no more from rewards of
    labels. From one reward for all labels of a document it learns more."""
    gate: GateRules = GateRules()
    """The limits that a candidate must meet, or the name of a preset."""
    rollback: RollbackRules = RollbackRules()
    """When the champion is rolled back, before anything is trained."""
    seed: int = 0
    """The random seed."""
    airflow: RetrainSchedule | None = None
    """When Airflow retrains; without it, it does not."""

    @classmethod
    def from_yaml(cls, path: str | Path) -> RetrainConfig:
        """Return the configuration in a file, with the pipeline that it names.

        Raises ConfigError with the file, the key and the fix.
        """
        document = yaml_loader.load(path)
        try:
            return cls.model_validate(document, context={"folder": Path(path).absolute().parent})
        except ValidationError as error:
            raise ConfigError(describe_validation(error, str(path))) from None
        except GliclassSparkError as error:
            raise type(error)(f"{path}: {error}") from None

    @property
    def model_name(self) -> str:
        """The name of the registered model."""
        return registered_model(self.pipeline.model)[0]

    def run_folder(self, run_id: str) -> Path:
        """Return the folder of one retraining: its snapshot, checkpoints and outcomes."""
        return Path(self.work) / quote(run_id, safe="+:@=")

    @model_validator(mode="before")
    @classmethod
    def _read_pipeline(cls, document: Any, info: ValidationInfo) -> Any:
        if not isinstance(document, dict) or not isinstance(document.get("pipeline"), str):
            raise ValueError("needs the key 'pipeline': the file of the pipeline whose model is retrained")
        if "pipeline_file" in document:
            raise ValueError("'pipeline_file' is no key of this file; write the file's path under 'pipeline'")
        for old, new in _RENAMED_KEYS.items():
            if old in document:
                raise ValueError(f"the key {old!r} is now {new!r}; rename it")
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

    @model_validator(mode="after")
    def _airflow_can_read_feedback(self) -> RetrainConfig:
        if self.airflow is not None:
            check_readable(self.pipeline.tables)
        return self

    @field_validator("work", "golden", "replay", "retention")
    @classmethod
    def _is_local(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for path in [value] if isinstance(value, str) else value:
            if has_scheme(path):
                raise ValueError(f"{path!r} is no path of the training machine; mount it, or copy it there")
        return value
