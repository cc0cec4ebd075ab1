"""A source, the settings of a pipeline over it, and its runs: what the operations of a history act on."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from delta.tables import DeltaTable
from delta_pipeline import pipeline_of
from pyspark.sql import DataFrame, SparkSession

from gliclass_spark.runs.delta_reader import delta_table
from gliclass_spark.spark.jobs import PipelineRun

# Each setting has alternatives; {text} is the text column's name. A rule comes with the same condition in Python.
Row = dict[str, Any]


def _text(row: Row) -> str:
    return row["body"] if "body" in row else row["content"]


@dataclass(frozen=True)
class Rule:
    """A condition of a rule, in SQL and in Python: of a document and its tags. `column` is one that it needs."""

    name: str
    sql: str
    holds: Callable[[Row], bool | None]
    column: str | None = None


SHORT = Rule("short", "token_count < 4", lambda row: row["token_count"] < 4)
NOT_SPAM = Rule("not_spam", "NOT array_contains(labels, 'spam')", lambda row: "spam" not in row["labels"])
LONG_TEXT = Rule("long_text", "length({text}) % 2 = 0", lambda row: len(_text(row)) % 2 == 0)
THIRD = Rule("third", "n % 3 = 0", lambda row: row["n"] is not None and row["n"] % 3 == 0, "n")
ODD = Rule("odd", "n % 2 = 1", lambda row: row["n"] is not None and row["n"] % 2 == 1, "n")
THREES = Rule("odd", "doc_id LIKE '%3'", lambda row: row["doc_id"].endswith("3"))
ONES = Rule("ones", "doc_id LIKE '%1'", lambda row: row["doc_id"].endswith("1"))
LAKE = Rule("lake", "{text} LIKE '%lake%'", lambda row: "lake" in _text(row))

REJECT = ((SHORT,), (NOT_SPAM, SHORT), (THIRD,), ())
# The routes, and whether a document goes to every one that matches.
ROUTES = (((ODD,), False), ((LAKE, ONES), True), ((THREES, ONES), False), ((), False))
LABEL_SETS: tuple[Any, ...] = (
    ["spam", "lake"],
    ["lake", "spam", "data"],
    {"name": "strict", "labels": ["spam", "lake"], "threshold": 0.9},
)
# source.columns: those of these names that there are.
COLUMNS = (None, ("n",), ())
MODELS = (0, 1)
WHERE = ((None, lambda row: True), ("id NOT LIKE '%2'", lambda row: not row["id"].endswith("2")))

ALTERNATIVES: dict[str, tuple[Any, ...]] = {
    **{"reject": REJECT, "routes": ROUTES, "label_set": LABEL_SETS},
    **{"model": MODELS, "columns": COLUMNS, "where": WHERE},
}


@dataclass
class Settings:
    """The chosen alternative of each setting."""

    reject: int = 0
    routes: int = 0
    label_set: int = 0
    model: int = 0
    columns: int = 0
    where: int = 0


class Operation(Protocol):
    """One step of a history."""

    def apply(self, world: World) -> None:
        """Do it."""


@dataclass
class World:
    """A source with a pipeline, in `folder`. The fields say what operations have made of them.

    oldest: the earliest version of the source that can be restored. copy: a copy of the source's files that was
    taken, with its `oldest`. runs, documents, changes: how many there were. last: the last run to compare.
    """

    spark: SparkSession
    folder: Path
    models: tuple[str, ...]
    settings: Settings = field(default_factory=Settings)
    oldest: int = 1
    copy: tuple[Path, int] | None = None
    runs: int = 1
    documents: int = 4
    changes: int = 0
    last: PipelineRun | None = None

    @property
    def path(self) -> Path:
        return self.folder / "documents"

    @property
    def table(self) -> DeltaTable:
        return DeltaTable.forPath(self.spark, str(self.path))

    @property
    def rows(self) -> DataFrame:
        return self.spark.read.format("delta").load(str(self.path))

    @property
    def columns(self) -> list[str]:
        return [field.name for field in delta_table(str(self.path)).schema().fields]

    @property
    def version(self) -> int:
        return delta_table(str(self.path)).version()

    @property
    def text(self) -> str:
        """The name of the text column."""
        return "body" if "body" in self.columns else "content"

    def change(self) -> int:
        """Return the number of a change: values with it are new ones."""
        self.changes += 1
        return self.changes

    def alter(self, change: str) -> None:
        self.spark.sql(f"ALTER TABLE delta.`{self.path}` {change}")

    @property
    def selected(self) -> list[str] | None:
        """The columns that the pipeline selects beside id and text; None: all."""
        selected, columns = COLUMNS[self.settings.columns], self.columns
        return None if selected is None else [name for name in selected if name in columns]

    def rules(self, chosen: tuple[Rule, ...]) -> list[Rule]:
        """Return the rules whose column the pipeline has."""
        columns = self.columns if self.selected is None else self.selected
        return [rule for rule in chosen if rule.column is None or rule.column in columns]

    def run(self, run_id: str | None = None, **options: Any) -> PipelineRun:
        """Return a new run by the present settings, which follow the names of the source's columns."""
        if run_id is None:
            self.runs += 1
            run_id = f"run-{self.runs}"
        chosen, selected = self.settings, self.selected
        routes, every = ROUTES[chosen.routes]
        source = {"path": "documents", "id": "id", "text": self.text, "where": WHERE[chosen.where][0]}
        if selected is not None:
            source["columns"] = selected
        reject, to = (
            [{key: rule.name, "when": rule.sql.format(text=self.text)} for rule in self.rules(rules)]
            for key, rules in (("reason", REJECT[chosen.reject]), ("route", routes))
        )
        pipeline = pipeline_of(
            self.folder,
            self.models[chosen.model],
            source={key: value for key, value in source.items() if value is not None},
            label_set=LABEL_SETS[chosen.label_set],
            reject=reject,
            routes=to,
            routing="every_match" if every else "first_match",
            max_error_ratio=1.0,
        )
        return PipelineRun(self.spark, pipeline, run_id, precision="float32", **options)


def copied(folder: Path, target: Path) -> None:
    """Replace `target` by a copy of the folder."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target)
