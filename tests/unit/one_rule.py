"""A pipeline's rules that are one condition, checked against columns and labels that the tests know."""

from __future__ import annotations

from gliclass_spark.config.rules import Route, Rules

COLUMNS = ("doc_id", "title", "text", "published", "meta", "odd name")
LABELS = ("machine learning", "web", "Art", "it's")


def check(when: str) -> None:
    """Raises RulesError unless the condition can be asked of these documents."""
    Rules(routes=(Route(route="r", when=when),)).check(COLUMNS, LABELS, "demo.yaml")
