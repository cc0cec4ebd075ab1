"""Rules with one condition, checked against a fixed set of columns and labels."""

from __future__ import annotations

from gliclass_spark.config.rules import Route, Rules

COLUMNS = ("doc_id", "title", "text", "published", "meta", "odd name")
LABELS = ("machine learning", "web", "Art", "it's")


def check(when: str) -> None:
    """Raise RulesError unless the condition is valid for documents with COLUMNS and LABELS."""
    Rules(routes=(Route(route="r", when=when),)).check(COLUMNS, LABELS, "demo.yaml")
