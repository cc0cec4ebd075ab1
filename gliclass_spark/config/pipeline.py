"""Pipeline configuration: the files of conf/pipelines."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PrivateAttr,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from gliclass_spark import yaml_loader
from gliclass_spark.config.catalog import (
    CatalogSchema,
    Tables,
    check_readable,
    check_table_name,
    folder_of,
    may_be_one_table,
)
from gliclass_spark.config.model_uri import REGISTERED, hub_model, registered_model, stored_model
from gliclass_spark.config.output import Output, as_text
from gliclass_spark.config.paths import (
    ConfigPath,
    canonical_folder,
    has_scheme,
    overlap,
    resolve_path,
    source_folders,
)
from gliclass_spark.config.rule_sql import TAG_COLUMNS, parse
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
# Reader options that have a key of their own in `source`.
_OPTION_KEYS = {
    **{"encoding": "encoding", "charset": "encoding", "sep": "delimiter", "delimiter": "delimiter"},
    **{"header": "header", "multiline": "multiline", "path": "path", "paths": "path"},
}
_FORMATS_OF = {
    "encoding": ("csv", "json"),
    "delimiter": ("csv",),
    "header": ("csv",),
    "multiline": ("csv", "json"),
    "options": ("parquet", "csv", "json"),
}
# Reader options that would lose rows in silence, or read other rows for one query than for the next.
_REFUSED_OPTIONS = {
    "mode": "a record that can't be read goes to `quarantined`",
    "columnnameofcorruptrecord": "a record that can't be read goes to `quarantined`",
    "samplingratio": "types are inferred from all records",
}


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
    table: Annotated[str, AfterValidator(check_table_name)] | None = None
    """A table or view of Spark's catalog, as `catalog.schema.table`."""
    format: Literal["delta", "parquet", "json", "csv"] = "delta"
    """The format of `path`. Only Delta has the versions that time travel and the change data feed need."""
    id: ColumnName
    """The column that identifies a document. No value may be null or repeat."""
    text: ColumnName
    """The column that is classified, of type string."""
    columns: tuple[ColumnName, ...] | None = None
    """Other columns to copy to `kept`, `rejected` and the routes' tables. Without it, all."""
    where: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)] | None = None
    """A Spark SQL condition on the source's columns, as in a rule: only documents that meet it are read."""
    encoding: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:+-]*$")
    """The encoding of csv and json files, by its name in Java, such as windows-1252 or UTF-16. Default: UTF-8."""
    delimiter: str | None = Field(None, min_length=1)
    """What separates the fields of csv files. Default: a comma."""
    header: bool | None = None
    """Whether the first record of each csv file names the columns, which are _c0, _c1, ... otherwise. Default: true."""
    multiline: bool | None = None
    """Whether a record may have line breaks. Default: true for csv; false for json, which has one object per line."""
    options: dict[str, Annotated[str, BeforeValidator(as_text)]] = Field(default_factory=dict)
    """Other options of Spark's reader of parquet, csv or json files, such as `recursiveFileLookup: true`."""

    @model_validator(mode="after")
    def _is_path_or_table(self) -> Source:
        if self.path is not None and self.table is not None:
            raise ValueError("has both 'path' and 'table'; remove one")
        if self.path is None and self.table is None:
            raise ValueError("has neither 'path' nor 'table'; add one")
        if self.table is not None and "format" in self.model_fields_set:
            raise ValueError("has 'format' beside 'table', whose format Spark knows; remove 'format'")
        self._check_reader_options()
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

    def selection(self) -> dict[str, str]:
        """Return what decides which documents are read, and by which id and text: settings of every job over them."""
        return {"id": self.id, "text": self.text, **({"where": self.where} if self.where is not None else {})}

    @field_validator("where")
    @classmethod
    def _is_safe_condition(cls, value: str | None) -> str | None:
        if value is not None:
            parse(value, "source.where")
        return value

    def _check_reader_options(self) -> None:
        file_format = self.format if self.path is not None else "table"
        for key, formats in _FORMATS_OF.items():
            if getattr(self, key) not in (None, {}) and file_format not in formats:
                raise ValueError(f"has {key!r}, which is for {' and '.join(formats)}, not for {file_format}; remove it")
        for option in self.options:
            if (own_key := _OPTION_KEYS.get(option.lower())) is not None:
                raise ValueError(f"has the option {option!r}, which has a key of its own: write source.{own_key}")
            if (reason := _REFUSED_OPTIONS.get(option.lower())) is not None:
                raise ValueError(f"has the option {option!r}, which is not for pipelines: {reason}; remove it")


class Pipeline(BaseModel):
    """A pipeline: one file of conf/pipelines, or `Pipeline(name=..., source={...}, label_set=[...], tables=...)`.

    The arguments are the keys of the file; relative paths begin at the working directory. Raises ConfigError,
    LabelSetError or RulesError with the key and the fix.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ignored_types=(cached_property,))

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=200)
    """The pipeline's name in `runs`, in Airflow and in the registry: a-z, 0-9, `_` and `-`."""
    source: Source
    """Where the documents are."""
    label_set: LabelSet
    """In the file: a path, a list of names, or a label set written out."""
    model: Annotated[str, AfterValidator(_check_model_uri)] = EMBEDDED_MODEL
    """A model URI: "embedded", a folder (which begins with `.` or `/`), a hub id (org/name@revision), a folder of an
    object store (s3://bucket/folder), or models:/NAME@champion."""
    tables: Tables
    """The folder that all tables are written to, or a schema of the catalog: `{schema: catalog.schema}`, or
    `{schema: catalog.schema, location: folder}`."""
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
    """The share of documents, in [0, 1], whose labels are drawn at random, instead of by thresholds, so that feedback
    also covers labels that the model does not expect: with a probability of one half at the threshold and of at least
    0.02 elsewhere. `explored` marks their rows, and `propensities` in `tags` holds the probability of each label. Rules
    see the drawn `labels`; `scores` are not affected. After a change of the share, `tag` decides all labels again from
    the existing scores, without a model."""
    output: Output = Output()
    """Properties and layout of the tables."""
    steps: tuple[Step, ...] = STEPS
    """The jobs of a run: `[tag]` only writes tags, and leaves the documents where they are."""
    airflow: Schedule | None = None
    """When Airflow runs it. Without this section, it does not."""

    _file: Path | None = PrivateAttr(None)
    _content: str | None = PrivateAttr(None)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Pipeline:
        """Return the pipeline in a file of conf/pipelines, with the label set that it names.

        Columns in rules are not checked, since that takes the documents' schema, see `Rules.check`. Raises
        ConfigError, LabelSetError or RulesError with the file, the key and the fix.
        """
        document = yaml_loader.load(path)
        folder = Path(path).absolute().parent
        try:
            pipeline = cls.model_validate(document, context={"folder": folder})
            pipeline._file, pipeline._content = Path(path), pipeline.model_dump_json()
            return pipeline
        except ValidationError as error:
            raise ConfigError(describe_validation(error, str(path))) from None
        except (LabelSetError, RulesError) as error:
            raise type(error)(f"{path}: {error}") from None

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_in_one_line(
        cls, values: Any, handler: ModelWrapValidatorHandler[Pipeline], info: ValidationInfo
    ) -> Pipeline:
        try:
            return handler(values)
        except ValidationError as error:
            if info.context is not None:
                raise  # from_yaml names the file
            raise ConfigError(describe_validation(error, "Pipeline")) from None

    def check_unchanged(self) -> None:
        """Raise ConfigError if the file, or its label set, has other contents than when it was read."""
        if self._file is not None and Pipeline.from_yaml(self._file)._content != self._content:
            raise ConfigError(f"{self._file} changed after this run had read it; run again, with the file as it is now")

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
        source, tables, folder = self.source, self.tables, folder_of(self.tables)
        documents = source_folders(source.path) if source.path is not None else []
        for name in self.written_tables:
            table = canonical_folder(f"{folder}/{name}") if folder is not None else None
            if table is not None and overlap(documents, table):
                raise ValueError(
                    f"source.path {source.path!r} and the table {name!r}, which is written to {table!r}, overlap; "
                    "choose another path or other tables"
                )
            named = tables.table(name) if isinstance(tables, CatalogSchema) else None
            if named is not None and source.table is not None and may_be_one_table(source.table, named):
                raise ValueError(
                    f"source.table {source.table!r} may be the table {name!r}, which is written to {named!r}; name "
                    "both with their catalogs, or choose another schema"
                )
        return self

    @model_validator(mode="after")
    def _airflow_can_read_tables(self) -> Pipeline:
        if self.airflow is not None:
            check_readable(self.tables)
        return self

    @property
    def written_tables(self) -> list[str]:
        """The names of the tables that the jobs write, which the source must not overlap."""
        return sorted({*_WRITTEN_TABLES, *self.rules.destinations})

    @cached_property
    def rules(self) -> Rules:
        """The reject and route rules, with their hash."""
        return Rules(reject=self.reject, routes=self.routes, default_route=self.default_route, routing=self.routing)
