"""One retraining, step by step: supervised, PPO, calibration, the gate. Each step leaves its outcome in a file.

A step that has its file is done, and gives what is in it: so a retraining that was killed goes on where
it was, and its steps may run on different machines that share the folder. Nothing here knows of Spark,
or of the registry: a snapshot and a champion come in, a candidate and a verdict go out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
from transformers import TrainerCallback

from gliclass_spark.checkpoints.digest import digest_of
from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.config.retraining import RetrainConfig, Supervised
from gliclass_spark.errors import TrainingError
from gliclass_spark.inference.engine import Engine
from gliclass_spark.model.checkpoint import load
from gliclass_spark.report.verdict import RetrainingFacts, verdict_page
from gliclass_spark.retraining.gate import EvaluationSet, GateComparison, GateVerdict, better, compare, judge
from gliclass_spark.training import ppo
from gliclass_spark.training.data.feedback_batches import JudgedBatches, LoggedBatches
from gliclass_spark.training.data.labelled_text import LabelledSet, data_version, read_sets, shared_texts
from gliclass_spark.training.data.logged_decisions import LoggedDecisions, read_decisions
from gliclass_spark.training.evaluation.calibrate import calibrate
from gliclass_spark.training.supervised import TrainingConfig, train_on

SNAPSHOT = "snapshot"
_CALIBRATION_ROWS = 2000
_SAVE_STEPS = 50

Outcome = Mapping[str, Any]
OnMetrics = Callable[[str, int, Mapping[str, float]], None]


@dataclass(frozen=True)
class Material:
    """What a retraining learns from, and what it is judged by.

    learned, held_out: documents with feedback, the newest held out. remembered: sets of other labels, to tell
    what was forgotten. notes: what can't be learned from them, or judged.
    """

    learned: LoggedDecisions
    held_out: LoggedDecisions
    golden: LabelledSet
    replay: tuple[LabelledSet, ...]
    remembered: tuple[LabelledSet, ...]
    notes: tuple[str, ...]

    def judged(self, max_weight: float) -> list[EvaluationSet]:
        """What the gate asks; an answer of the feedback weighs `max_weight` at most."""
        label_set = self.learned.label_set
        return [
            EvaluationSet.of_labelled(self.golden, label_set),
            EvaluationSet.of_decisions(self.held_out, max_weight),
        ]


@dataclass(frozen=True)
class Retraining:
    """The steps of one retraining in `folder`, which holds the snapshot. `on_metrics` is told how it goes."""

    config: RetrainConfig
    folder: Path
    champion: ModelRef
    on_metrics: OnMetrics = lambda step, at, metrics: None

    @cached_property
    def material(self) -> Material:
        """Raises TrainingError for what nothing can be learned from, or judged by."""
        return read_material(self.config, self.folder / SNAPSHOT)

    def supervised(self) -> Outcome:
        """Learn from judgements and from replayed sets."""
        return self._once("supervised", self._supervised)

    def ppo(self) -> Outcome:
        """Go on with PPO, and keep its candidate only if it is better than the supervised one."""
        return self._once("ppo", self._ppo)

    def calibrate(self) -> Outcome:
        """Fit temperatures and thresholds to the candidate, on half of the golden set."""
        return self._once("calibrate", self._calibrate)

    def gate(self) -> Outcome:
        """Compare the candidate with the champion. The page of the verdict is gate.html in the folder."""
        return self._once("gate", self._gate)

    @property
    def candidate(self) -> Path:
        """The folder of the checkpoint that goes to the gate."""
        return self.folder / str(self.ppo()["candidate"])

    def _supervised(self) -> Outcome:
        config, material = self.config.supervised, self.material
        start = load(self.champion)
        questions = JudgedBatches(
            material.learned,
            material.replay,
            texts=config.texts,
            replay_share=config.replay_share,
            max_weight=config.max_weight,
            size=config.steps,
            seed=self.config.seed,
        )
        training = training_config(config, self.config.seed)
        data = {f"data.{name}": f"{path}@{data_version(Path(path))}" for name, path in self._tables()}
        curve = _Curve(lambda at, metrics: self.on_metrics("supervised", at, metrics))
        train_on(questions, start.model, start.tokenizer, training, self.folder / "supervised", [curve])
        evidence = asdict(material.learned.evidence(config.max_weight))
        return {"curve": curve.points, "evidence": evidence, "notes": list(material.notes), "data": data}

    def _tables(self) -> Iterator[tuple[str, str]]:
        """What is read beside the snapshot, by name."""
        yield "golden", self.config.golden
        for name, paths in (("replay", self.config.replay), ("remembered", self.config.remembered)):
            for number, path in enumerate(paths):
                yield f"{name}.{number}", path

    def _ppo(self) -> Outcome:
        self.supervised()
        config, material = self.config.ppo, self.material
        label_set = material.learned.label_set
        if config is None or not label_set.multi_label:
            why = "it is switched off" if config is None else f"{label_set.name!r} gives each text one label"
            return {"candidate": "supervised", "curve": [], "notes": [f"no PPO: {why}"]}
        start = load(resolve_model(str(self.folder / "supervised")))
        known = JudgedBatches(
            material.learned,
            material.replay,
            texts=config.texts,
            replay_share=self.config.supervised.replay_share,
            max_weight=1.0,
            size=config.steps,
            seed=self.config.seed + 1,
        )
        logged = None
        if _rewards_differ(material.learned):
            logged = LoggedBatches(material.learned, texts=config.texts, size=config.steps, seed=self.config.seed + 1)
        curve: list[dict[str, float]] = []

        def remember(at: int, metrics: Mapping[str, float]) -> None:
            curve.append({"step": at, **metrics})
            self.on_metrics("ppo", at, metrics)

        sources = ppo.Sources(known, logged)
        place = ppo.train(
            start.model,
            start.tokenizer,
            sources,
            config,
            self.folder / "ppo",
            seed=self.config.seed,
            label_set=label_set,
            on_step=remember,
        )
        one, other = (self._compared(folder) for folder in (place, self.folder / "supervised"))
        chosen = "ppo" if better(one, other) else "supervised"
        scores = {name: _means(found) for name, found in (("ppo", one), ("supervised", other))}
        return {"candidate": chosen, "macro_f1": scores, "curve": curve, "notes": []}

    def _compared(self, folder: Path) -> list[GateComparison]:
        candidate, champion = Engine.from_pretrained(str(folder)), Engine.from_pretrained(self.champion)
        label_set = self.material.learned.label_set
        return [compare(candidate, champion, label_set, judged) for judged in self._judged if judged.texts]

    def _calibrate(self) -> Outcome:
        label_set, golden = self.material.learned.label_set, self.material.golden
        engine = Engine.from_pretrained(str(self.candidate))
        found = calibrate(engine, label_set, golden, max_rows=_CALIBRATION_ROWS, seed=self.config.seed)
        (self.candidate / "label_set.yaml").write_text(found.label_set.to_yaml(), encoding="utf-8")
        return {"before": found.before.error, "after": found.after.error, "judged_on": found.judged_on}

    def _gate(self) -> Outcome:
        verdict = verdict_facts(self._judge())
        facts = RetrainingFacts(
            model=self.config.model_name,
            run_id=unquote(self.folder.name),
            champion=self.champion.digest,
            candidate=digest_of(self.candidate),
            snapshot=json.loads((self.folder / SNAPSHOT / "snapshot.json").read_text(encoding="utf-8")),
            supervised=self.supervised(),
            ppo=self.ppo(),
            calibration=self.calibrate(),
            verdict=verdict,
        )
        self._leave("gate.html", verdict_page(facts))
        return verdict

    def _judge(self) -> GateVerdict:
        candidate, champion = Engine.from_pretrained(str(self.candidate)), Engine.from_pretrained(self.champion)
        material, rules = self.material, self.config.gate
        label_set, remembered = material.learned.label_set, material.remembered
        return judge(candidate, champion, label_set, self._judged, rules, remembered, self.config.seed)

    @property
    def _judged(self) -> list[EvaluationSet]:
        return self.material.judged(self.config.supervised.max_weight)

    def _once(self, step: str, work: Callable[[], Outcome]) -> Outcome:
        path = self.folder / f"{step}.json"
        if path.exists():
            known: Outcome = json.loads(path.read_text(encoding="utf-8"))
            return known
        found = work()
        self._leave(path.name, json.dumps(found, indent=2) + "\n")
        return found

    def _leave(self, name: str, text: str) -> None:
        """Write a file of the folder, whole or not at all. Of the processes that torchrun starts, one writes."""
        if os.environ.get("RANK", "0") == "0":
            unfinished = self.folder / f"{name}.unfinished"
            unfinished.write_text(text, encoding="utf-8")
            unfinished.rename(self.folder / name)


def read_material(config: RetrainConfig, snapshot: Path) -> Material:
    """Snapshot, golden set and replayed sets, checked before any training.

    Raises TrainingError if too few decisions are known, if all judgements say the same, if a text of the
    golden set or of one that should be remembered stands among those learned from, or if the golden set is
    more than one table or has a label that the label set lacks.
    """
    decisions = read_decisions(snapshot)
    learned, held_out = decisions.where(~decisions.held_out), decisions.where(decisions.held_out)
    replay = tuple(labelled for path in config.replay for labelled in read_sets(Path(path)))
    remembered = tuple(labelled for path in config.remembered for labelled in read_sets(Path(path)))
    golden = _only(read_sets(Path(config.golden)), config.golden)
    _refuse_unknown(golden, learned)
    texts = tuple(text for labelled in replay for text in labelled.texts) + learned.texts
    _refuse_learned("the golden set", golden, texts)
    for labelled in remembered:
        _refuse_learned(labelled.name, labelled, texts)
    known = int((learned.judged | learned.rewarded).sum())
    if known < config.min_decisions:
        raise TrainingError(
            f"{known} decisions are known to be right or wrong, {config.min_decisions} are needed; bring more feedback "
            "(gliclass-spark feedback), or lower min_decisions"
        )
    answers = set(learned.targets[learned.judged].tolist())
    if len(answers) == 1:
        said = "holds" if answers == {1.0} else "does not hold"
        raise TrainingError(
            f"all {int(learned.judged.sum())} judgements say that a label {said}: nothing can be told apart by them; "
            "bring feedback on decisions that were wrong and on some that were right"
        )
    newest = _without(held_out, texts)
    return Material(
        learned, newest, golden, replay, remembered, tuple(_notes(learned, newest, replay, config.supervised))
    )


def training_config(config: Supervised, seed: int) -> TrainingConfig:
    """What the trainer is told. Which questions are asked, `JudgedBatches` decides."""
    return TrainingConfig(
        steps=config.steps,
        encoder_lr=config.encoder_lr,
        head_lr=config.head_lr,
        max_text_tokens=config.max_text_tokens,
        save_steps=_SAVE_STEPS,
        seed=seed,
    )


def verdict_facts(verdict: GateVerdict) -> Outcome:
    """The verdict as a document."""
    return {"promoted": verdict.promoted, **asdict(verdict)}


class _Curve(TrainerCallback):
    """What the trainer logs, step by step."""

    def __init__(self, on_point: Callable[[int, Mapping[str, float]], None]) -> None:
        self._on_point = on_point
        self.points: list[dict[str, float]] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float] | None = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            point = {name: float(value) for name, value in logs.items() if name in ("loss", "grad_norm")}
            self.points.append({"step": state.global_step, **point})
            self._on_point(state.global_step, point)


def _means(comparisons: list[GateComparison]) -> dict[str, float]:
    return {each.name: each.candidate.macro_f1 for each in comparisons}


def _rewards_differ(decisions: LoggedDecisions) -> bool:
    return len(np.unique(decisions.rewards[decisions.rewarded])) > 1


def _notes(
    learned: LoggedDecisions, newest: LoggedDecisions, replay: tuple[LabelledSet, ...], supervised: Supervised
) -> list[str]:
    found = []
    if learned.explored:
        evidence = learned.evidence(supervised.max_weight)
        found.append(
            f"{evidence.judgements} judgements, weighed by the inverse of their propensity, say as much as "
            f"{evidence.effective_sample_size:.0f} of equal weight would; {evidence.clipped} are held to max_weight "
            f"{supervised.max_weight:g}"
        )
    else:
        found.append(
            "the decisions were made by thresholds alone: nothing can be learned about labels that documents were not "
            "given, but by corrections; set `exploration` in the pipeline, to 0.02, say"
        )
    if not newest.judged.any():
        found.append(
            "no document is left whose feedback nothing was learned from: the golden set alone judges; bring feedback "
            "on more documents, or raise holdout_share"
        )
    if not replay:
        found.append("nothing is replayed: what the model knew of other labels may be forgotten; name sets in `replay`")
    if learned.rewarded.any() and not _rewards_differ(learned):
        found.append("all rewards are alike: PPO learns from judgements alone")
    return found


def _only(tables: list[LabelledSet], path: str) -> LabelledSet:
    if len(tables) == 1:
        return tables[0]
    names = ", ".join(table.name for table in tables)
    raise TrainingError(f"golden: {path} holds {len(tables)} tables ({names}); name the one that judges")


def _refuse_unknown(golden: LabelledSet, learned: LoggedDecisions) -> None:
    unknown = sorted(set(golden.labels) - set(learned.label_set.names))
    if unknown:
        raise TrainingError(
            f"the golden set {golden.name} has {len(unknown)} label(s) that {learned.label_set.name!r} lacks: "
            f"{', '.join(unknown[:5])}; label it with the names of the pipeline's label set"
        )


def _refuse_learned(name: str, asked: LabelledSet, texts: tuple[str, ...]) -> None:
    shared = shared_texts(asked, LabelledSet("learned", (), texts, ((),) * len(texts)))
    if shared:
        raise TrainingError(
            f"{len(shared)} of the {len(asked)} texts of {name} stand among those that are learned from "
            f"({asked.texts[min(shared)][:60]!r}, ...): it could not judge; take them out of one of the two"
        )


def _without(decisions: LoggedDecisions, texts: tuple[str, ...]) -> LoggedDecisions:
    """Those documents whose text is none of these: a copy of a document that was learned from judges nothing."""
    own = LabelledSet("held out", (), decisions.texts, ((),) * len(decisions))
    shared = shared_texts(own, LabelledSet("learned", (), texts, ((),) * len(texts)))
    return decisions.where(np.array([row not in shared for row in range(len(decisions))], dtype=bool))
