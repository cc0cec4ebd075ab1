"""Classified texts, and the versions of a registered model."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from gliclass_spark.cli.output.result_table import ResultTable

if TYPE_CHECKING:
    from gliclass_spark.checkpoints.registry import ModelVersion
    from gliclass_spark.inference.results import Classification
    from gliclass_spark.labels import LabelSet

_TEXT_CHARS = 80
_DECIMALS = 6


def show_classification(console: Console, text: str, classification: Classification, label_set: LabelSet) -> None:
    """Print a text's scores, best first, one line per branch of the label tree. A star marks an assigned label."""
    lines = [classification.error.message] if classification.error else _branch_lines(classification, label_set)
    console.print("\n  ".join([text[:_TEXT_CHARS], *lines]), markup=False, highlight=False)


def classification_document(text: str, classification: Classification) -> dict[str, Any]:
    """Return a text's record as JSON, with the names of the `tags` table: its labels best first, and all scores."""
    return {
        "text": text,
        "labels": [scored.label for scored in classification.labels],
        "scores": {label: round(score, _DECIMALS) for label, score in classification.scores.items()},
        "error": asdict(classification.error) if classification.error else None,
        "token_count": classification.token_count,
        "chunk_count": classification.chunk_count,
    }


def _branch_lines(classification: Classification, label_set: LabelSet) -> list[str]:
    assigned = {scored.label for scored in classification.labels}
    by_branch: defaultdict[tuple[str, ...], list[tuple[float, str]]] = defaultdict(list)
    for label in label_set.labels:
        score = classification.scores[label.name]
        star = "*" if label.name in assigned else " "
        by_branch[label.branches].append((score, f"{star}{label.own_name} {score:.2f}"))
    lines = []
    for branches, entries in by_branch.items():
        line = "  ".join(entry for _, entry in sorted(entries, key=lambda scored: -scored[0]))
        lines.append(f"{'.'.join(branches)}: {line}" if branches else line)
    return lines


def versions_document(name: str, versions: Sequence[ModelVersion]) -> dict[str, Any]:
    """Return the versions of a registered model as JSON, latest first."""
    listed = [{"uri": version.uri, **asdict(version)} for version in reversed(versions)]
    return {"name": name, "versions": listed}


def show_versions(console: Console, name: str, versions: Sequence[ModelVersion]) -> None:
    """Print the versions of a registered model, latest first."""
    table = ResultTable(f"Versions of {escape(name)}")
    table.number("version")
    table.text("aliases")
    for heading in ("digest", "created (UTC)", "macro-F1"):
        table.number(heading)
    for version in reversed(versions):
        table.row(
            str(version.number),
            escape(", ".join(version.aliases)),
            version.digest[:12],
            f"{version.created_at:%Y-%m-%d %H:%M}",
            escape(version.tags.get("macro_f1", "")),
        )
    table.print(console)
    _show_rollbacks(console, versions)


def _show_rollbacks(console: Console, versions: Sequence[ModelVersion]) -> None:
    """Print why versions were rolled back automatically."""
    from gliclass_spark.checkpoints.registry.promotions import ROLLBACK_TAG

    for version in versions:
        if ROLLBACK_TAG in version.tags:
            reason = json.loads(version.tags[ROLLBACK_TAG])["reason"]
            console.print(
                f"version {version.number} was rolled back automatically: {reason}",
                highlight=False,
                soft_wrap=True,
                markup=False,
            )
