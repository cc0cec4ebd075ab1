"""The steps of a retraining: supervised training, PPO, calibration, the gate.

Each step leaves its outcome in a JSON file, with the settings that it follows from; a step whose file exists is not
repeated. So a retraining that was killed continues where it was, and its steps may run on different machines that share
the folder. A snapshot and a champion come in, a candidate and a verdict go out, without Spark and the registry.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gliclass_spark import atomic_files
from gliclass_spark.checkpoints.digest import digest_of
from gliclass_spark.checkpoints.files import CALIBRATION
from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.config.retraining import NotGiven, Ppo, RetrainConfig, Supervised
from gliclass_spark.config.training import TrainingConfig
from gliclass_spark.errors import ConfigError
from gliclass_spark.labels import read_calibration
from gliclass_spark.retraining.document_comparison import document_reward_difference
from gliclass_spark.retraining.gate.reward_comparison import RewardDifference, reward_difference
from gliclass_spark.retraining.retraining_data import RetrainingData, data_versions, read_retraining_data
from gliclass_spark.retraining.training_cost import CALIBRATION_ROWS
from gliclass_spark.training.data.logged_decisions import LoggedDecisions

# What works with a model is imported by the steps that need it: that takes seconds, and the others need none of it.
if TYPE_CHECKING:
    from gliclass_spark.training.data.feedback_batches import JudgedBatches

logger = logging.getLogger(__name__)

SNAPSHOT = "snapshot"
_SAVE_STEPS = 50
# The keys of the configuration that a step's outcome follows from, apart from those of the steps before it.
_SETTINGS = {
    "supervised": ("feedback", "holdout_share", "max_source_share", "replay", "seed", "supervised"),
    "ppo": ("ppo",),
    "calibrate": ("golden",),
    "gate": ("gate", "retention"),
}

_NO_CHOICE = (
    "PPO's candidate was not chosen: no held-out feedback says which one is better; bring feedback on more documents, "
    "on right and on wrong decisions"
)

Outcome = Mapping[str, Any]
# Called with the step's name, the number of updates, and their metrics.
OnMetrics = Callable[[str, int, Mapping[str, float]], None]


@dataclass(frozen=True)
class Retraining:
    """One retraining, in the folder that holds its snapshot."""

    config: RetrainConfig
    folder: Path
    run_id: str
    champion: ModelRef
    on_metrics: OnMetrics = lambda step, updates, metrics: None

    @cached_property
    def data(self) -> RetrainingData:
        """Raises TrainingError for data that can't be trained on or evaluated on."""
        return read_retraining_data(self.config, self.folder / SNAPSHOT)

    @cached_property
    def supervised_steps(self) -> int:
        """The number of steps of the supervised training."""
        judged = int((self.data.training.training_targets >= 0).any(axis=1).sum())
        return self.config.supervised.step_count(judged, is_replaying=bool(self.data.replay))

    @property
    def candidate(self) -> Path:
        """The checkpoint that goes to the gate."""
        return self.folder / str(self.ppo()["candidate"])

    def supervised(self) -> Outcome:
        """Train the champion on judgements and replayed sets."""
        return self._once("supervised", self._supervised)

    def ppo(self) -> Outcome:
        """Continue with PPO; its checkpoint is the candidate if it is better than the supervised one.

        The choice is made on one half of the held-out feedback: the gate judges on the other, and on the golden set.
        """
        return self._once("ppo", self._ppo)

    def calibrate(self) -> Outcome:
        """Fit temperatures and thresholds of the candidate to half of the golden set."""
        return self._once("calibrate", self._calibrate)

    def gate(self) -> Outcome:
        """Compare the candidate with the champion and check the gate's rules."""
        return self._once("gate", self._gate)

    def _supervised(self) -> Outcome:
        from gliclass_spark.model.checkpoint import load
        from gliclass_spark.training.supervised import LossCurve, train_on

        settings, data = self.config.supervised, self.data
        start = load(self.champion)
        batches = self._judged_batches(settings, self.supervised_steps, self.config.seed)
        versions = data_versions(self.config)
        curve = LossCurve(lambda updates, metrics: self.on_metrics("supervised", updates, metrics))
        config = supervised_training(settings, self.supervised_steps, self.config.seed)
        folder = self.folder / "supervised"
        steps_folder = self._steps_folder("supervised")
        train_on(batches, start.model, start.tokenizer, config, folder, [curve], steps_folder=steps_folder)
        evidence = asdict(data.training.evidence(settings.max_weight))
        return {"curve": curve.points, "evidence": evidence, "notes": list(data.notes), "data": versions}

    def _ppo(self) -> Outcome:
        self.supervised()
        settings, data, seed = self.config.ppo, self.data, self.config.seed
        label_set = data.training.label_set
        if settings is None or not label_set.multi_label:
            reason = "it is switched off" if settings is None else f"{label_set.name!r} gives each text one label"
            return {"candidate": "supervised", "curve": [], "notes": [f"no PPO: {reason}"]}
        from gliclass_spark.model.checkpoint import load
        from gliclass_spark.training.data.feedback_batches import LoggedBatches
        from gliclass_spark.training.reinforcement import ppo

        start = load(resolve_model(str(self.folder / "supervised")))
        judged = self._judged_batches(settings, settings.steps, seed + 1)
        logged = None
        if data.training.rewards_differ(settings.not_given):
            logged = LoggedBatches(
                data.training,
                texts=settings.texts,
                size=settings.steps,
                seed=seed + 1,
                max_weight=settings.max_weight,
                not_given=settings.not_given,
            )
        curve: list[dict[str, float]] = []

        def on_step(step: int, metrics: Mapping[str, float]) -> None:
            curve.append({"step": step, **metrics})
            self.on_metrics("ppo", step, metrics)

        checkpoint = ppo.train(
            start.model,
            start.tokenizer,
            ppo.Sources(judged, logged),
            settings,
            self.folder / "ppo",
            seed=seed,
            label_set=label_set,
            on_step=on_step,
            steps_folder=self._steps_folder("ppo"),
        )
        difference = self._difference(checkpoint, self.folder / "supervised", settings.not_given)
        is_better = difference is not None and difference.difference > 0
        return {
            "candidate": "ppo" if is_better else "supervised",
            "reward_difference": None if difference is None else asdict(difference),
            "curve": curve,
            "notes": [] if difference is not None else [_NO_CHOICE],
        }

    def _calibrate(self) -> Outcome:
        from gliclass_spark.inference.engine import Engine
        from gliclass_spark.training.evaluation.calibrate import calibrate

        label_set, golden = self.data.training.label_set, self.data.golden
        engine = Engine.from_pretrained(str(self.candidate))
        calibration = calibrate(engine, label_set, golden, max_rows=CALIBRATION_ROWS, seed=self.config.seed)
        atomic_files.write_text(self.candidate / CALIBRATION, calibration.label_set.to_yaml())
        return {
            "before": calibration.before.error,
            "after": calibration.after.error,
            "evaluated_on": calibration.evaluated_on,
        }

    def _gate(self) -> Outcome:
        from gliclass_spark.inference.engine import Engine
        from gliclass_spark.retraining.gate.gate_comparison import Contender, EvaluationSet
        from gliclass_spark.retraining.gate.judge import judge

        self.calibrate()  # its outcome is part of the verdict's page
        label_set = self.data.training.label_set
        candidate, champion = (
            Contender(Engine.from_pretrained(model), read_calibration(folder / CALIBRATION, label_set))
            for model, folder in ((str(self.candidate), self.candidate), (self.champion, self.champion.folder))
        )
        verdict = judge(
            candidate,
            champion,
            label_set,
            EvaluationSet.of_labelled(self.data.golden, label_set),
            self._feedback_for_gate(),
            self.config.gate,
            self.data.retention,
            self.config.seed,
        )
        return {
            "model": self.config.model_name,
            "run_id": self.run_id,
            "champion": self.champion.digest,
            "candidate": digest_of(self.candidate),
            "promoted": verdict.promoted,
            **asdict(verdict),
        }

    def _judged_batches(self, settings: Supervised | Ppo, steps: int, seed: int) -> JudgedBatches:
        from gliclass_spark.training.data.feedback_batches import JudgedBatches

        return JudgedBatches(
            self.data.training,
            self.data.replay,
            texts=settings.texts,
            replay_share=self.config.supervised.replay_share,
            max_weight=settings.max_weight,
            size=steps,
            seed=seed,
        )

    def _difference(self, checkpoint: Path, other: Path, not_given: NotGiven) -> RewardDifference | None:
        """Return how much more reward a checkpoint would earn than another, on the half of the feedback for that.

        The estimate is that of the rewards of labels or of documents, whichever is of more documents.
        """
        from gliclass_spark.inference.engine import Engine
        from gliclass_spark.retraining.gate.gate_comparison import Contender

        decisions, _ = self.data.split_held_out(self.config.seed)
        if not decisions.texts:
            return None
        chosen, other_chosen = (
            Contender(Engine.from_pretrained(str(folder))).assign(decisions.texts, decisions.label_set)
            for folder in (checkpoint, other)
        )
        of_labels = reward_difference(decisions, chosen, other_chosen, not_given)
        of_documents = document_reward_difference(decisions, chosen, other_chosen)
        known = [difference for difference in (of_labels, of_documents) if difference is not None]
        return max(known, key=lambda difference: difference.documents, default=None)

    def _feedback_for_gate(self) -> LoggedDecisions:
        """Return the held-out feedback that the candidate was not chosen by."""
        was_chosen = "reward_difference" in self.ppo()
        return self.data.split_held_out(self.config.seed)[1] if was_chosen else self.data.held_out

    def _once(self, step: str, run: Callable[[], Outcome]) -> Outcome:
        path, settings = self.folder / f"{step}.json", self._settings(step)
        if path.exists():
            recorded: Outcome = json.loads(path.read_text(encoding="utf-8"))
            earlier = recorded.get("settings", {})  # earlier versions recorded none, or not all of them
            changed = [name for name, value in settings.items() if earlier.get(name, value) != value]
            if changed:
                raise ConfigError(
                    f"{path}: this retraining did its step {step!r} with another {' and '.join(map(repr, changed))}; "
                    "retrain under a new run id, or bring the earlier settings back"
                )
            return recorded
        outcome = {**run(), "settings": settings}
        if _writes_files():
            atomic_files.write_text(path, json.dumps(outcome, indent=2) + "\n")
        return outcome

    def _steps_folder(self, step: str) -> Path:
        """Return the folder of a training's checkpoints: one for its settings, its data and the model it starts from.

        Checkpoints of others, of a training that was stopped before one of these changed, are removed with a warning.
        """
        start = self.champion.digest if step == "supervised" else digest_of(self.folder / "supervised")
        versions = {role: version.rpartition("@")[2] for role, version in data_versions(self.config).items()}
        snapshot = json.loads((self.folder / SNAPSHOT / "snapshot.json").read_text(encoding="utf-8"))
        follows_from = {"settings": self._settings(step), "data": versions, "snapshot": snapshot, "start": start}
        digest = hashlib.sha256(json.dumps(follows_from, sort_keys=True).encode()).hexdigest()[:16]
        parent = self.folder / step / "steps"
        others = [path for path in parent.iterdir() if path.name != digest] if parent.is_dir() else []
        if others and _writes_files():
            logger.warning(
                "%s: settings, data or the model to start from changed since it was stopped, so it starts over", step
            )
            for path in others:
                shutil.rmtree(path)
        return parent / digest

    def _settings(self, step: str) -> dict[str, Any]:
        """Return the settings that the outcome of a step follows from, as JSON."""
        steps = list(_SETTINGS)
        keys = {key for name in steps[: steps.index(step) + 1] for key in _SETTINGS[name]}
        settings = self.config.model_dump(mode="json", include=keys)
        for key in keys & {"golden", "replay", "retention"}:  # machines may have the tables in different folders
            paths = settings[key] if isinstance(settings[key], list) else [settings[key]]
            settings[key] = [Path(path).name for path in paths]
        return {"label_set": self.config.pipeline.label_set.hash, **settings}


def _writes_files() -> bool:
    """Return whether this process writes files: of those that torchrun starts, one does."""
    return os.environ.get("RANK", "0") == "0"


def supervised_training(settings: Supervised, steps: int, seed: int) -> TrainingConfig:
    """Return the trainer's configuration for a retraining's supervised step."""
    return TrainingConfig(
        steps=steps,
        encoder_lr=settings.encoder_lr,
        head_lr=settings.head_lr,
        max_text_tokens=settings.max_text_tokens,
        save_steps=_SAVE_STEPS,
        seed=seed,
    )
