"""Sample retrainings: the outcomes of their steps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gliclass_spark.report.verdict import RetrainingFacts

CHAMPION, CANDIDATE = "c" * 64, "d" * 64
REWARD = {
    "difference": 0.031,
    "standard_error": 0.02,
    "decisions": 412,
    "documents": 80,
    "effective_sample_size": 210.4,
}


def comparison(name: str, champion: Mapping[str, float], candidate: Mapping[str, float]) -> dict[str, Any]:
    """Return a comparison with these F1 scores by label, and 40 texts for each label."""
    sides = {
        side: {"macro_f1": sum(f1.values()) / len(f1), "f1": dict(f1), "calibration_error": error}
        for side, f1, error in (("champion", champion, 0.08), ("candidate", candidate, 0.05))
    }
    gain = sides["candidate"]["macro_f1"] - sides["champion"]["macro_f1"]
    return {
        "name": name,
        "texts": 1200,
        **sides,
        "f1_interval": (gain - 0.02, gain + 0.03),
        "standard_error": 0.0128,
        "detectable_gain": 0.032,
        "texts_for_gain": {"0.01": 12288, "0.05": 492},
        "agreement": 0.875,
        "label_texts": dict.fromkeys({**champion, **candidate}, 40),
    }


def verdict(*comparisons: dict[str, Any], failed: str | None = None) -> dict[str, Any]:
    """Return a verdict in which the rule `failed`, if any, did not pass."""
    rules = ("max_f1_loss", "max_label_loss", "max_slowdown")
    findings = [{"rule": rule, "passed": rule != failed, "message": f"{rule}: measured, limit"} for rule in rules]
    return {
        "promoted": failed is None,
        "comparisons": comparisons,
        "reward": REWARD,
        "slowdown": 1.04,
        "findings": findings,
    }


def ppo(selected: str = "ppo") -> dict[str, Any]:
    difference = {**REWARD, "difference": 0.125 if selected == "ppo" else -0.125}
    curve = [
        {"step": step, "reward": step % 7 / 10 + step / 200, "kl": step / 1e4, "effective_sample_size": 40 + step % 30}
        for step in range(1, 101)
    ]
    return {"candidate": selected, "reward_difference": difference, "curve": curve, "notes": []}


NO_PPO = {"candidate": "supervised", "curve": [], "notes": ["no PPO: it is switched off"]}


def facts(**changed: Any) -> RetrainingFacts:
    """Return the facts of a retraining whose candidate passes; `changed` replaces fields."""
    golden = comparison(
        "golden", {"complaint": 0.5, "invoice": 0.75, "spam": 0.7}, {"complaint": 0.75, "invoice": 0.7, "spam": 0.7}
    )
    defaults = {
        "model": "support_mail",
        "run_id": "retrain-1",
        "champion": CHAMPION,
        "candidate": CANDIDATE,
        "snapshot": {
            "label_set": {"name": "mail", "labels": []},
            "tables": {
                "feedback": {"path": "/lake/mail/feedback", "version": 12},
                "source": {"path": "/data/mail", "version": None},
            },
            "counts": {"signals": 5321, "late": 12, "rows": 4100, "held_out": 160},
            "exploration": 0.02,
            "created_at": "2026-11-23T02:00:00+00:00",
        },
        "supervised": {
            "curve": [{"step": epoch * 10, "loss": 1 / epoch, "grad_norm": 1.0} for epoch in range(1, 21)],
            "notes": ["nothing is replayed"],
        },
        "ppo": ppo(),
        "calibration": {"before": 0.08, "after": 0.03, "evaluated_on": 600},
        "verdict": verdict(golden),
    }
    return RetrainingFacts(**{**defaults, **changed})
