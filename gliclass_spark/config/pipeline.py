"""Pipeline configuration: the files of conf/pipelines."""

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
# In the order in which they run: each reads the tables that the one before it wrote.
STEPS: tuple[Step, ...] = ("tag", "filter", "route")
# Which documents a run scores again: with a "changed" text, label set or model; "all"; or, with "none", not for a
# changed model.
Retag = Literal["changed", "all", "none"]

# Tables that the jobs write, which the source must not overlap. `documents` is the source itself.
_WRITTEN_TABLES = RESERVED_TABLES - {"documents"}
_TABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*){0,2}")


def _check_model_uri(value: str, info: ValidationInfo) -> str:
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


def _check_column(value: str) -> str:
    if not value or not value.isprintable() or "`" in value:
        raise ValueError(f"{value!r} can't be a column; give a name of printable characters without backquotes")
    if value.lower() in TAG_COLUMNS:
        raise ValueError(f"{value!r} is a column that tagging adds; rename the column of the documents")
    return value


ColumnName = Annotated[str, AfterValidator(_check_column)]
# Strict, because otherwise `true` would be accepted as 1.0.
Share = Annotated[float, Field(ge=0.0, le=1.0, strict=True)]


class Source(BaseModel):
    """Where the documents are: a `path` in a `format`, or a `table` of the catalog; never both."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: ConfigPath | None = None
    """A folder or an object store URI."""
    table: str | None = None
    """A table of Spark's catalog, as `catalog.schema.table`."""
    format: Literal["delta", "parquet", "json", "csv"] = "delta"
    """The format of `path`. Only Delta has the versions that time travel and the change data feed need."""
    id: ColumnName
    """The column that identifies a document. No value may be null or repeat."""
    text: ColumnName
    """The column that is classified, of type string."""
    columns: tuple[ColumnName, ...] | None = None
    """Other columns to copy to `kept`, `rejected` and the routes' tables. Without it, all."""

    @field_validator("table")
    @classmethod
    def _plain_identifiers(cls, value: str | None) -> str | None:
        if value is not None and not _TABLE.fullmatch(value):
            raise ValueError(f"{value!r} is no table name; write one to three names of A-Z, a-z, 0-9, _ with dots")
        return value

    @model_validator(mode="after")
    def _is_path_or_table(self) -> Source:
        if self.path is not None and self.table is not None:
            raise ValueError("has both 'path' and 'table'; remove one")
        if self.path is None and self.table is None:
            raise ValueError("has neither 'path' nor 'table'; add one")
        if self.table is not None and "format" in self.model_fields_set:
            raise ValueError("has 'format' beside 'table', whose format Spark knows; remove 'format'")
        seen: set[str] = set()
        for column in (self.id, self.text, *(self.columns or ())):
            if column.lower() in seen:
                raise ValueError(f"column {column!r} is named twice among id, text and columns; remove one")
            seen.add(column.lower())
        if "doc_id" in seen and self.id.lower() != "doc_id":
            raise ValueError(
                f"'doc_id' is the name of the id in the tables, but the id is {self.id!r}; rename the column"
            )
        return self


class Pipeline(BaseModel):
    """One file of conf/pipelines."""

    model_config = ConfigDict(extra="forbid", frozen=True, ignored_types=(cached_property,))

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    """The pipeline's name in `runs`, in Airflow and in the registry: a-z, 0-9, `_` and `-`."""
    source: Source
    """Where the documents are."""
    label_set: LabelSet
    """In the file: a path, a list of names, or a label set written out."""
    model: Annotated[str, AfterValidator(_check_model_uri)] = EMBEDDED_MODEL
    """A model URI: "embedded", a folder (which begins with `.` or `/`), a hub id (org/name@revision), a folder of an
    object store (s3://bucket/folder), or models:/NAME@champion."""
    tables: ConfigPath
    """The folder that all tables are written to."""
    reject: tuple[RejectRule, ...] = ()
    """Reasons to reject a document. The first match counts; without any, every document is kept."""
    routes: tuple[Route, ...] = ()
    """Destinations of kept documents."""
    default_route: str = "unrouted"
    """The table of kept documents that no route matches."""
    routing: Routing = "first_match"
    """`first_match`: a document goes to the first route that matches. `every_match`: to every one that does."""
    max_error_ratio: Share = 0.01
    """The share of rows, in [0, 1], that may fail. Above it, the job stops and commits nothing."""
    exploration: Share = 0.0
    """The share of documents, in [0, 1], whose labels are drawn at random with their scores as probabilities, instead
    of by thresholds, so that feedback also covers labels that the model does not expect. `explored` marks their rows,
    and `propensities` in `tags` holds the probability of each label. Rules see the drawn `labels`; `scores` are not
    affected. After a change of the share, `tag` decides all labels again from the existing scores, without a model."""
    steps: tuple[Step, ...] = STEPS
    """The jobs of a run: `[tag]` only writes tags, and leaves the documents where they are."""
    airflow: Schedule | None = None
    """When Airflow runs it. Without this section, it does not."""

    @classmethod
    def from_yaml(cls, path: str | Path) -> Pipeline:
        """Return the pipeline in a file of conf/pipelines, with the label set that it names.

        Columns in rules are not checked, since that takes the documents' schema, see `Rules.check`. Raises
        ConfigError, LabelSetError or RulesError with the file, the key and the fix.
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
    def _are_in_order(cls, steps: tuple[Step, ...]) -> tuple[Step, ...]:
        if not steps or steps != STEPS[: len(steps)]:
            raise ValueError(
                "each step reads the tables of the one before it; write [tag], [tag, filter], or all three"
            )
        return steps

    @model_validator(mode="after")
    def _rules_fit_steps_and_labels(self) -> Pipeline:
        for key, step in (("reject", "filter"), ("routes", "route")):
            if getattr(self, key) and step not in self.steps:
                raise ValueError(f"{key!r} has rules, but 'steps' has no {step!r}; add it, or remove the rules")
        self.rules.check_labels(self.label_set.names, f"label set {self.label_set.name!r}")
        return self

    @model_validator(mode="after")
    def _source_is_not_written(self) -> Pipeline:
        if self.source.path is not None:
            documents = canonical_folder(self.source.path)
            for name, table in self._written_tables():
                if documents.startswith(table) or table.startswith(documents):
                    raise ValueError(
                        f"source.path {self.source.path!r} and the table {name!r}, which is written to {table!r}, "
                        "overlap; choose another path or other tables"
                    )
        return self

    @cached_property
    def rules(self) -> Rules:
        """The reject and route rules, with their hash."""
        return Rules(reject=self.reject, routes=self.routes, default_route=self.default_route, routing=self.routing)

    def _written_tables(self) -> Iterator[tuple[str, str]]:
        for name in sorted({*_WRITTEN_TABLES, *self.rules.destinations}):
            yield name, canonical_folder(f"{self.tables}/{name}")
