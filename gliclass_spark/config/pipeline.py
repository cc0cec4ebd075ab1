"""The files of conf/pipelines: what to tag, what to ask, and what becomes of each document."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from gliclass_spark import yaml_loader
from gliclass_spark.config.model_uri import REGISTERED, hub_model, registered_model, stored_model
from gliclass_spark.config.paths import ConfigPath, canonical_folder, has_scheme, resolve_path
from gliclass_spark.config.rule_sql import TAG_COLUMNS
from gliclass_spark.config.rules import RESERVED_TABLES, RejectRule, Route, Routing, Rules
from gliclass_spark.config.schedule import Schedule
from gliclass_spark.errors import ConfigError, LabelSetError, RulesError, describe_validation
from gliclass_spark.labels import LabelSet

EMBEDDED_MODEL = "embedded"
Step = Literal["tag", "filter", "route"]
# In the order in which they run: each reads what the one before it wrote.
STEPS: tuple[Step, ...] = ("tag", "filter", "route")
# What a run scores again: texts, label sets and models that "changed", "all", or "none" for a changed model alone.
Retag = Literal["changed", "all", "none"]

# The source of the documents may stand beside the tables that are written; all others are written.
_WRITTEN_TABLES = RESERVED_TABLES - {"documents"}
_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*){0,2}")


def _resolve_model(value: str, info: ValidationInfo) -> str:
    if value.startswith(REGISTERED):
        registered_model(value)
        return value
    if has_scheme(value):
        stored_model(value)
        return value
    if value.startswith((".", "/", "~")):
        return resolve_path(value, info)
    try:
        hub_model(value)
    except ValueError:
        raise ValueError(
            f"{value!r} is neither {EMBEDDED_MODEL!r} nor a hub id; begin the path of a folder with ./"
        ) from None
    return value


def _column(value: str) -> str:
    if not value or not value.isprintable() or "`" in value:
        raise ValueError(f"{value!r} can't be a column; give a name of printable characters without backquotes")
    if value.lower() in TAG_COLUMNS:
        raise ValueError(f"{value!r} is a column that tagging adds; rename the column of the documents")
    return value


ColumnName = Annotated[str, AfterValidator(_column)]
# Strict, because a lax share would take `true` for 1.0.
Share = Annotated[float, Field(ge=0.0, le=1.0, strict=True)]


class Source(BaseModel):
    """Where the documents are: a `path` in a `format`, or a `table` of the catalog; never both.

    `id` and `text` name the columns that are read. `columns` names the others that go along into the
    tables of kept and rejected documents; without it, all do.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: ConfigPath | None = None
    table: str | None = None
    format: Literal["delta", "parquet", "json", "csv"] = "delta"
    id: ColumnName
    text: ColumnName
    columns: tuple[ColumnName, ...] | None = None

    @field_validator("table")
    @classmethod
    def _plain_identifiers(cls, value: str | None) -> str | None:
        if value is not None and not _TABLE.fullmatch(value):
            raise ValueError(f"{value!r} is no table name; write one to three names of A-Z, a-z, 0-9, _ with dots")
        return value

    @model_validator(mode="after")
    def _possible(self) -> Source:
        if self.path is not None and self.table is not None:
            raise ValueError("has both 'path' and 'table'; remove one")
        if self.path is None and self.table is None:
            raise ValueError("has neither 'path' nor 'table'; add one")
        if self.table is not None and "format" in self.model_fields_set:
            raise ValueError("has 'format' beside 'table', but a table knows its own; remove 'format'")
        seen: set[str] = set()
        for column in (self.id, self.text, *(self.columns or ())):
            if column.lower() in seen:
                raise ValueError(f"column {column!r} is named twice among id, text and columns; remove one")
            seen.add(column.lower())
        if "doc_id" in seen and self.id.lower() != "doc_id":
            raise ValueError(f"'doc_id' is what the tables call the id, but the id is {self.id!r}; rename the column")
        return self


class Pipeline(BaseModel):
    """One file of conf/pipelines.

    `model` is "embedded", a folder (which begins with `.` or `/`), a hub id (org/name@revision), a folder of
    a store (s3://bucket/folder), or models:/NAME@champion.
    `tables` is the folder that all tables are written to. `max_error_ratio` is the share of rows, in
    [0, 1], that may fail before the job does. `steps` are the jobs of a run: `[tag]` leaves the documents
    where they are, with their tags beside them. `airflow` says when Airflow runs it.

    `exploration` is the share of documents, in [0, 1], whose labels are drawn from the scores and not given
    by thresholds, so that feedback also tells about labels that the model did not expect; `explored` marks
    them in the tables, and `propensities` in `tags` says how probable each label was. Rules that ask for
    `labels` see what was drawn; rules that ask for `scores` are not affected. When the share changes, the
    next `tag` decides every document's labels anew from the scores that it has, and asks no model.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ignored_types=(cached_property,))

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    source: Source
    label_set: LabelSet
    model: Annotated[str, AfterValidator(_resolve_model)] = EMBEDDED_MODEL
    tables: ConfigPath
    reject: tuple[RejectRule, ...] = ()
    routes: tuple[Route, ...] = ()
    default_route: str = "unrouted"
    routing: Routing = "first_match"
    max_error_ratio: Share = 0.01
    exploration: Share = 0.0
    steps: tuple[Step, ...] = STEPS
    airflow: Schedule | None = None

    @classmethod
    def from_yaml(cls, path: str | Path) -> Pipeline:
        """Read `conf/pipelines/*.yaml` and the label set that it names. Raises ConfigError,
        LabelSetError or RulesError that names file, key and mend. Columns that rules name are not
        checked: that takes the documents' schema, see `Rules.check`.
        """
        document = yaml_loader.load(path)
        folder = Path(path).absolute().parent
        try:
            return cls.model_validate(document, context={"folder": folder})
        except ValidationError as error:
            raise ConfigError(describe_validation(error, str(path))) from None
        except (LabelSetError, RulesError) as error:
            raise type(error)(f"{path}: {error}") from None

    @field_validator("label_set", mode="before")
    @classmethod
    def _read_label_set(cls, value: Any, info: ValidationInfo) -> Any:
        if isinstance(value, str):
            if has_scheme(value):
                raise ValueError(f"{value!r} is not a local file, which a label set must be; copy it beside this file")
            return LabelSet.from_yaml(resolve_path(value, info))
        if isinstance(value, list):
            value = {"labels": value}
        if isinstance(value, dict):
            return {"name": info.data.get("name", "labels"), **value}
        return value

    @field_validator("steps")
    @classmethod
    def _in_order(cls, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        if not steps or steps != STEPS[: len(steps)]:
            raise ValueError("each step reads what the one before it wrote: write [tag], [tag, filter], or all three")
        return steps

    @model_validator(mode="after")
    def _consistent(self) -> Pipeline:
        for key, step in (("reject", "filter"), ("routes", "route")):
            if getattr(self, key) and step not in self.steps:
                raise ValueError(f"{key!r} has rules, but 'steps' has no {step!r}; add it, or remove the rules")
        self.rules.check_labels(self.label_set.names, f"label set {self.label_set.name!r}")
        if self.source.path is not None:
            documents = canonical_folder(self.source.path)
            for name, table in self._written():
                if documents.startswith(table) or table.startswith(documents):
                    raise ValueError(
                        f"source.path {self.source.path!r} and the table {name!r}, which is written to {table!r}, "
                        "overlap; choose another path or other tables"
                    )
        return self

    @cached_property
    def rules(self) -> Rules:
        """The rules by themselves, with their hash."""
        return Rules(reject=self.reject, routes=self.routes, default_route=self.default_route, routing=self.routing)

    def _written(self) -> Iterator[tuple[str, str]]:
        for name in sorted({*_WRITTEN_TABLES, *self.rules.destinations}):
            yield name, canonical_folder(f"{self.tables}/{name}")
