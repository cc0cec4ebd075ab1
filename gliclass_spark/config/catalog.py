"""Names in Spark's catalog, and where a pipeline's tables are: in a folder, or in a schema of the catalog."""

from __future__ import annotations

import re
from typing import Annotated, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationInfo

from gliclass_spark.config.paths import ConfigPath, resolve_path
from gliclass_spark.errors import ConfigError

_PLAIN = r"[A-Za-z_][A-Za-z0-9_]*"
# A name with a slash or a colon would be a path: Spark reads delta.`/folder` as a table.
_PART = rf"(?:{_PLAIN}|`[^`/\\:\x00-\x1f]+`)"
_TABLE = re.compile(rf"{_PART}(?:\.{_PART}){{0,2}}")
_SCHEMA = re.compile(rf"{_PART}(?:\.{_PART})?")
_SPELLING = "of A-Z, a-z, 0-9, _ with dots, others in backquotes"


def check_table_name(value: str) -> str:
    """Return the name of a table. Raises ValueError unless it has one to three parts, quoted where SQL needs it."""
    if not _TABLE.fullmatch(value):
        raise ValueError(f"{value!r} is no table name; write one to three names {_SPELLING}")
    return value


def _check_schema_name(value: str) -> str:
    if not _SCHEMA.fullmatch(value):
        raise ValueError(f"{value!r} is no schema; write `schema` or `catalog.schema`, names {_SPELLING}")
    return value


class CatalogSchema(BaseModel):
    """A schema of the catalog that holds a pipeline's tables, in Unity Catalog or a Hive metastore.

    Spark reads and writes its tables by their names.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, AfterValidator(_check_schema_name)] = Field(alias="schema")
    """An existing schema, as `schema` or `catalog.schema`."""
    location: ConfigPath | None = None
    """A folder or object store URI for the tables, which are external ones then: each in a folder of its name.
    Airflow and `report` read the tables there, without Spark. Without it, the catalog decides where they are."""

    def table(self, name: str) -> str:
        """Return the name of a table in the schema, as SQL spells it."""
        return f"{self.name}.{name if re.fullmatch(_PLAIN, name) else f'`{name}`'}"


def _read_tables(value: object, info: ValidationInfo) -> object:
    # Not left to the union, whose errors would be those of both types.
    if isinstance(value, dict):
        return CatalogSchema.model_validate(value, context=info.context)
    if isinstance(value, str):
        return resolve_path(value, info)
    if isinstance(value, CatalogSchema):
        return value
    raise ValueError(f"{value!r} is no place for tables; write a folder, or {{schema: catalog.schema}}")


Tables: TypeAlias = Annotated[str | CatalogSchema, BeforeValidator(_read_tables)]


def table_name(tables: str | CatalogSchema, name: str) -> str:
    """Return a table's name in the catalog, or its path, for messages."""
    return tables.table(name) if isinstance(tables, CatalogSchema) else table_path(tables, name)


def place_of(tables: str | CatalogSchema) -> str:
    """Return the name of the schema, or the folder, that holds the tables, for messages."""
    return tables.name if isinstance(tables, CatalogSchema) else tables


def folder_of(tables: str | CatalogSchema) -> str | None:
    """Return the folder or URI that holds the tables' folders; None if the catalog decides where they are."""
    folder = tables.location if isinstance(tables, CatalogSchema) else tables
    return folder.rstrip("/") if folder is not None else None


def check_readable(tables: str | CatalogSchema) -> None:
    """Raise ValueError if Airflow can't read the tables, because the catalog alone knows where they are."""
    if folder_of(tables) is None:
        raise ValueError(
            f"'airflow' needs a 'location' beside the schema {place_of(tables)} in 'tables', a folder or object store "
            "URI: Airflow's checks read the tables without Spark, which alone knows where the catalog has put them"
        )


def table_path(tables: str | CatalogSchema, name: str) -> str:
    """Return the path or URI of a table, for readers without Spark.

    Raises ConfigError if the catalog alone knows it.
    """
    folder = folder_of(tables)
    if folder is None:
        raise ConfigError(
            f"{table_name(tables, name)} can't be read without Spark, which alone knows where it is; add a 'location', "
            "a folder or object store URI, to 'tables'"
        )
    return f"{folder}/{name}"


def may_be_one_table(name: str, other: str) -> bool:
    """Return whether two names may name one table: one of fewer parts is in the session's own catalog or schema."""
    pairs = zip(reversed(_parts(name)), reversed(_parts(other)), strict=False)
    return all(part == other_part for part, other_part in pairs)


def _parts(name: str) -> list[str]:
    """Return the parts of a name as the catalog compares them, without backquotes and in lower case."""
    return [part.strip("`").lower() for part in re.findall(_PART, name)]
