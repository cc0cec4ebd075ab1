"""The page of a retraining: whether its candidate becomes the champion, why, and what it has learned from."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

from gliclass_spark.report import verdict_figures, words
from gliclass_spark.report.svg import Drawing
from gliclass_spark.report.template import filled

Outcome = Mapping[str, Any]

# What a snapshot counts; a count that is not here goes by its own name.
_COUNTS = {
    "signals": "signals about this label set",
    "late": "of these late: about an earlier decision",
    "decisions": "decisions that they are about",
    "contradicting": "of these with signals that contradict each other",
    "stale": "left out: the text has changed since",
    "gone": "left out: the document is no more",
    "unknown": "left out: nothing is left of what was said",
    "older": "left out: of documents behind the newest",
    "rows": "decisions in the snapshot",
    "documents": "documents in the snapshot",
    "held_out": "of these held out for the gate: the newest",
}


@dataclass(frozen=True)
class RetrainingFacts:
    """The outcomes of a retraining's steps, each as the JSON file that the step wrote.

    model: the registered model's name. champion, candidate: digests. snapshot: snapshot/snapshot.json. supervised,
    ppo, calibration, verdict: supervised.json, ppo.json, calibrate.json, gate.json.
    """

    model: str
    run_id: str
    champion: str
    candidate: str
    snapshot: Outcome
    supervised: Outcome
    ppo: Outcome
    calibration: Outcome
    verdict: Outcome

    @classmethod
    def read(cls, folder: Path) -> RetrainingFacts:
        """Read the files of a retraining's folder. gate.json also holds model, run_id, champion and candidate."""
        gate = _read(folder / "gate.json")
        return cls(
            model=gate["model"],
            run_id=gate["run_id"],
            champion=gate["champion"],
            candidate=gate["candidate"],
            snapshot=_read(folder / "snapshot" / "snapshot.json"),
            supervised=_read(folder / "supervised.json"),
            ppo=_read(folder / "ppo.json"),
            calibration=_read(folder / "calibrate.json"),
            verdict=gate,
        )

    @property
    def failed(self) -> list[Outcome]:
        return [finding for finding in self.verdict["findings"] if not finding["passed"]]


def write_verdict_page(folder: Path) -> Path:
    """Write gate.html into a retraining's folder, from the files that its steps left there, and return its path."""
    from gliclass_spark import atomic_files

    path = folder / "gate.html"
    atomic_files.write_text(path, verdict_page(RetrainingFacts.read(folder)))
    return path


def verdict_page(facts: RetrainingFacts) -> str:
    """The HTML page, whole in itself: no script, and nothing that is fetched. The same facts give the same page."""
    drawing, name = Drawing(), shlex.quote(facts.model)
    return filled(
        "verdict.html.j2",
        facts=facts,
        headline=f"{facts.model}: the candidate is {'promoted' if facts.verdict['promoted'] else 'refused'}",
        story=_story(facts),
        notes=[*facts.supervised["notes"], *facts.ppo["notes"]],
        sets=verdict_figures.sets(facts.verdict["comparisons"], drawing),
        curves=verdict_figures.curves(facts.supervised, facts.ppo, drawing),
        chosen=_chosen(facts.ppo),
        counts=[(_COUNTS.get(key, key.replace("_", " ")), count) for key, count in facts.snapshot["counts"].items()],
        taken_at=datetime.fromisoformat(facts.snapshot["created_at"]),
        commands={verb: f"gliclass-spark {verb} {name}" for verb in ("rollback", "promote", "models")},
    )


def _read(path: Path) -> Outcome:
    outcome: Outcome = json.loads(path.read_text(encoding="utf-8"))
    return outcome


def _story(facts: RetrainingFacts) -> str:
    checks, failed = len(facts.verdict["findings"]), len(facts.failed)
    kept = f"It fails {failed} of {checks} checks: the champion stays." if failed else f"It passes all {checks} checks."
    judged = [f"{words.counted(found['texts'], 'text')} of {found['name']}" for found in facts.verdict["comparisons"]]
    on = f" on {words.several(judged)}, which neither has learned from" if judged else ""
    return f"Candidate {facts.candidate[:12]} was compared with champion {facts.champion[:12]}{on}. {kept}"


def _chosen(ppo: Outcome) -> str:
    """Which of the two trainings' candidates went to the gate, and why."""
    if "macro_f1" not in ppo:
        return "The supervised candidate went to the gate: there is no other."
    means = {name: fmean(found.values()) for name, found in ppo["macro_f1"].items()}
    sides = f"{means['ppo']:.3f} beside {means['supervised']:.3f}"
    if ppo["candidate"] == "ppo":
        return f"PPO's candidate went to the gate: in the mean of the sets its macro-F1 is higher, {sides}."
    return f"The supervised candidate went to the gate: in the mean of the sets PPO's macro-F1 is no higher, {sides}."
