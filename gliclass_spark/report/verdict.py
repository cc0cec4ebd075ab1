"""Verdict report: the HTML page of a retraining, with the gate's verdict, quality, training curves and data."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any

from markupsafe import Markup

from gliclass_spark import atomic_files
from gliclass_spark.report import number_format
from gliclass_spark.report.charts.lines import Change, dumbbells, gain_interval, learning_curve
from gliclass_spark.report.drawing import Drawing
from gliclass_spark.report.template import fill

StepOutcome = Mapping[str, Any]

_LABELS_SHOWN = 25
_UNKNOWN = "unknown"
# Descriptions of the snapshot's counts; another count is shown by its name.
_COUNTS = {
    "signals": "signals about the pipeline's labels",
    "mapped": "of these about an earlier label set",
    "dropped": "left out: signals about a label that the label set no longer has",
    "late": "of these late: about an earlier decision",
    "decisions": "decisions with signals",
    "contradicting": "of these with contradicting signals",
    "stale": "left out: the text has changed since",
    "gone": "left out: the document was deleted",
    "unknown": "left out: no signal about a label is left",
    "over_share": "left out: of sources beyond max_source_share",
    "older": "left out: older than the newest decisions",
    "rows": "decisions in the snapshot",
    "rewarded_documents": "of these on all labels of a document together",
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
    snapshot: StepOutcome
    supervised: StepOutcome
    ppo: StepOutcome
    calibration: StepOutcome
    verdict: StepOutcome

    @classmethod
    def read(cls, folder: Path) -> RetrainingFacts:
        """Read the files of a retraining's folder.

        gate.json also holds model, run_id, champion and candidate. In one of an earlier build they are "unknown".
        """
        gate = _read(folder / "gate.json")
        return cls(
            model=gate.get("model", _UNKNOWN),
            run_id=gate.get("run_id", _UNKNOWN),
            champion=gate.get("champion", _UNKNOWN),
            candidate=gate.get("candidate", _UNKNOWN),
            snapshot=_read(folder / "snapshot" / "snapshot.json"),
            supervised=_read(folder / "supervised.json"),
            ppo=_read(folder / "ppo.json"),
            calibration=_read(folder / "calibrate.json"),
            verdict=gate,
        )

    @property
    def failed(self) -> list[StepOutcome]:
        return [finding for finding in self.verdict["findings"] if not finding["passed"]]


@dataclass(frozen=True)
class SetRow:
    """A set's row of the table: the gate's comparison, the gain, and the labels that changed most.

    labels: how many labels the set has, of which `labels_shown` are in the chart.
    """

    comparison: StepOutcome
    gain: float
    gain_chart: Markup
    labels: int
    labels_shown: int
    labels_chart: Markup | None


@dataclass(frozen=True)
class Curve:
    """A learning curve: its title, what its values are, and its chart."""

    title: str
    about: str
    chart: Markup


def write_verdict_page(folder: Path) -> Path:
    """Write gate.html into a retraining's folder, from the files that its steps left there, and return its path."""
    path = folder / "gate.html"
    atomic_files.write_text(path, verdict_page(RetrainingFacts.read(folder)))
    return path


def verdict_page(facts: RetrainingFacts) -> str:
    """Return the HTML page. It has no script and fetches nothing; the same facts give the same page."""
    drawing, name = Drawing(), shlex.quote(facts.model) if facts.model != _UNKNOWN else "NAME"
    return fill(
        "verdict.html.j2",
        facts=facts,
        headline=f"{facts.model}: the candidate is {'promoted' if facts.verdict['promoted'] else 'refused'}",
        summary=_summary(facts),
        notes=[*facts.supervised["notes"], *facts.ppo["notes"]],
        power=[text for text in map(_power, facts.verdict["comparisons"]) if text],
        reward=facts.verdict.get("reward"),
        sets=_set_rows(facts.verdict["comparisons"], drawing),
        curves=_curves(facts.supervised, facts.ppo, drawing),
        selection=_selection(facts.ppo),
        counts=[(_COUNTS.get(key, key.replace("_", " ")), count) for key, count in facts.snapshot["counts"].items()],
        taken_at=datetime.fromisoformat(facts.snapshot["created_at"]),
        commands={verb: f"gliclass-spark {verb} {name}" for verb in ("rollback", "promote", "models")},
    )


def _read(path: Path) -> StepOutcome:
    outcome: StepOutcome = json.loads(path.read_text(encoding="utf-8"))
    return outcome


def _summary(facts: RetrainingFacts) -> str:
    checks, failed = len(facts.verdict["findings"]), len(facts.failed)
    result = (
        f"It fails {failed} of {checks} checks: the champion stays." if failed else f"It passes all {checks} checks."
    )
    sets = [f"{number_format.counted(row['texts'], 'text')} of {row['name']}" for row in facts.verdict["comparisons"]]
    on = f" on {number_format.enumeration(sets)}, on which neither was trained" if sets else ""
    return f"Candidate {facts.candidate[:12]} was compared with champion {facts.champion[:12]}{on}. {result}"


def _selection(ppo: StepOutcome) -> str:
    """Return which training's candidate went to the gate, and why."""
    difference = ppo.get("reward_difference")
    if difference is None:
        return f"The {'PPO' if ppo['candidate'] == 'ppo' else 'supervised'} candidate went to the gate."
    chosen = "PPO's" if ppo["candidate"] == "ppo" else "The supervised"
    return (
        f"{chosen} candidate went to the gate: on {number_format.counted(difference['documents'], 'document')} held "
        f"out for this choice, the estimated reward per decision of PPO's differs by {difference['difference']:+.3f}."
    )


def _power(comparison: StepOutcome) -> str | None:
    """Return the gain that the set can detect, and the number of texts for others; None in an earlier build's file."""
    gain = comparison.get("detectable_gain")
    if gain is None:
        return None
    if not gain:
        return f"The two models give the same labels on {comparison['name']}: there is no gain to detect."
    texts = comparison["texts_for_gain"].items()
    needed = number_format.enumeration([f"{count:,} for {float(size):+.2f}" for size, count in texts])
    return (
        f"{number_format.counted(comparison['texts'], 'text')} of {comparison['name']} show a gain of {gain:+.3f} in 4 "
        f"of 5 cases, for two models that differ as much as these (95% confidence, one-sided). Texts needed: {needed}."
    )


def _set_rows(comparisons: Sequence[StepOutcome], drawing: Drawing) -> list[SetRow]:
    """Return a row for each set. The gain charts share one scale."""
    ends = [abs(end) for comparison in comparisons for end in (*comparison["f1_interval"], _gain(comparison))]
    extent = max(ends, default=0.0) or 1.0
    return [_set_row(comparison, extent, drawing) for comparison in comparisons]


def _set_row(comparison: StepOutcome, extent: float, drawing: Drawing) -> SetRow:
    (low, high), gain = comparison["f1_interval"], _gain(comparison)
    changes = _label_changes(comparison)
    shown = sorted(changes, key=lambda change: -abs(change.difference))[:_LABELS_SHOWN]
    shown.sort(key=lambda change: change.difference)
    labels_chart = None
    if shown:
        values = "; ".join(f"{change.name}: {change.text}" for change in shown)
        labels_chart = drawing.svg(dumbbells(shown), f"F1 by label, champion and candidate. {values}")
    description = f"Gain {gain:+.3f}, between {low:+.3f} and {high:+.3f}"
    gain_chart = drawing.svg(gain_interval(gain, low, high, extent), description)
    return SetRow(comparison, gain, gain_chart, len(changes), len(shown), labels_chart)


def _gain(comparison: StepOutcome) -> float:
    return float(comparison["candidate"]["macro_f1"] - comparison["champion"]["macro_f1"])


def _label_changes(comparison: StepOutcome) -> list[Change]:
    """Return the F1 changes of the labels for which a model's F1 is defined."""
    changes = []
    for label, texts in comparison["label_texts"].items():
        before, after = (comparison[side]["f1"].get(label) for side in ("champion", "candidate"))
        if before is None and after is None:
            continue
        before_text, after_text = ("–" if value is None else f"{value:.2f}" for value in (before, after))
        text = f"{before_text} → {after_text}, {number_format.counted(texts, 'text')}"
        changes.append(Change(label, before, after, text))
    return changes


def _curves(supervised: StepOutcome, ppo: StepOutcome, drawing: Drawing) -> list[Curve]:
    """Return the learning curves that have points."""
    candidates = (
        _curve("Supervised: loss", "lower is better", supervised["curve"], "loss", drawing),
        _curve("PPO: reward", "mean over the actions of a step", ppo["curve"], "reward", drawing),
        _curve("PPO: distance from the supervised candidate", "KL divergence, in nats", ppo["curve"], "kl", drawing),
        _curve(
            "PPO: effective sample size",
            "number of equally weighted actions with the same variance",
            ppo["curve"],
            "effective_sample_size",
            drawing,
        ),
    )
    return [curve for curve in candidates if curve is not None]


def _curve(title: str, about: str, points: Sequence[Mapping[str, float]], key: str, drawing: Drawing) -> Curve | None:
    finite = [(point["step"], point[key]) for point in points if key in point and isfinite(point[key])]
    if not finite:
        return None
    steps, values = zip(*finite, strict=True)
    ends = f"{values[0]:.3g} at step {steps[0]:,.0f}, {values[-1]:.3g} at step {steps[-1]:,.0f}"
    return Curve(title, about, drawing.svg(learning_curve(steps, values), f"{title}: {ends}"))
