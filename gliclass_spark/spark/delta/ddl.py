"""Statements that define Delta tables: columns, types, properties and comments as SQL, with every name quoted."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql.types import ArrayType, DataType, MapType, StructField, StructType

from gliclass_spark.spark.delta.column_names import quoted


def column_definitions(schema: StructType) -> str:
    """Return the columns with their types, constraints (NOT NULL) and comments, as CREATE TABLE takes them."""
    return ", ".join(f"{quoted(field.name)} {_definition(field)}" for field in schema)


def assignments(properties: Mapping[str, str]) -> str:
    """Return table properties as TBLPROPERTIES takes them."""
    return ", ".join(f"{literal(name)} = {literal(value)}" for name, value in properties.items())


def literal(text: str) -> str:
    """Return the text as a string literal, which ends where it should whatever escapes the session's parser knows."""
    escaped = text.replace("\\", r"\u005C").replace("'", r"\u0027")
    return f"'{escaped}'"


def _definition(field: StructField) -> str:
    not_null = "" if field.nullable else " NOT NULL"
    comment = f" COMMENT {literal(field.metadata['comment'])}" if "comment" in field.metadata else ""
    return f"{_type(field.dataType)}{not_null}{comment}"


def _type(data_type: DataType) -> str:
    # A type's own text does not quote the names within it.
    if isinstance(data_type, StructType):
        return f"STRUCT<{', '.join(f'{quoted(field.name)}: {_definition(field)}' for field in data_type)}>"
    if isinstance(data_type, ArrayType):
        return f"ARRAY<{_type(data_type.elementType)}>"
    if isinstance(data_type, MapType):
        return f"MAP<{_type(data_type.keyType)}, {_type(data_type.valueType)}>"
    return data_type.simpleString()
