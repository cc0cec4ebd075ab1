"""Made-up retrainings, as their steps leave them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gliclass_spark.report.verdict import RetrainingFacts

CHAMPION, CANDIDATE = "c" * 64, "d" * 64


def comparison(name: str, champion: Mapping[str, float], candidate: Mapping[str, float]) -> dict[str, Any]:
    """Of the F1 of each label, 40 texts each."""
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
        "agreement": 0.875,
        "label_texts": dict.fromkeys({**champion, **candidate}, 40),
    }


def verdict(*comparisons: dict[str, Any], failed: str | None = None) -> dict[str, Any]:
    """Each rule says "RULE: found, asked"; the failed one failed."""
    rules = ("min_f1_gain", "max_label_loss", "max_slowdown")
    findings = [{"rule": rule, "passed": rule != failed, "said": f"{rule}: found, asked"} for rule in rules]
    return {"promoted": failed is None, "comparisons": comparisons, "slowdown": 1.04, "findings": findings}


def ppo(chosen: str = "ppo") -> dict[str, Any]:
    better, worse = {"golden": 0.75, "newest feedback": 0.7}, {"golden": 0.7, "newest feedback": 0.6}
    other = "supervised" if chosen == "ppo" else "ppo"
    curve = [
        {"step": at, "reward": at % 7 / 10 + at / 200, "kl": at / 1e4, "effective_sample_size": 40 + at % 30}
        for at in range(1, 101)
    ]
    return {"candidate": chosen, "macro_f1": {chosen: better, other: worse}, "curve": curve, "notes": []}


NO_PPO = {"candidate": "supervised", "curve": [], "notes": ["no PPO: it is switched off"]}


def facts(**changed: Any) -> RetrainingFacts:
    """A candidate that passes; `changed`: fields of it."""
    golden = comparison(
        "golden", {"complaint": 0.5, "invoice": 0.75, "spam": 0.7}, {"complaint": 0.75, "invoice": 0.7, "spam": 0.7}
    )
    newest = comparison("newest feedback", {"complaint": 0.4, "invoice": 0.5}, {"complaint": 0.6, "invoice": 0.5})
    given = {
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
            "curve": [{"step": at * 10, "loss": 1 / at, "grad_norm": 1.0} for at in range(1, 21)],
            "notes": ["nothing is replayed"],
        },
        "ppo": ppo(),
        "calibration": {"before": 0.08, "after": 0.03, "judged_on": 600},
        "verdict": verdict(golden, newest),
    }
    return RetrainingFacts(**{**given, **changed})
