"""What `retrain --check` shows of the champion: what its check would do, and whether a retraining is due."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console

if TYPE_CHECKING:
    from gliclass_spark.retraining.champion_evidence import ExpectedCheck
    from gliclass_spark.runs.due.retraining_due import RetrainingDue


def outlook_document(check: ExpectedCheck, due: RetrainingDue | None) -> dict[str, Any]:
    """Return both as JSON."""
    return {"champion_check": asdict(check), "retraining": asdict(due) if due is not None else None}


def show_outlook(console: Console, check: ExpectedCheck, due: RetrainingDue | None) -> None:
    """Print a line for the champion, and for each reason why a retraining is due, or why that can't be told."""
    lines = [f"champion: {check.message}"]
    if due is not None:
        lines += [f"due: {reason}" for reason in due.reasons] or ["due: no, apart from new feedback"]
        lines += [f"not known: {note}" for note in due.notes]
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True, markup=False)
