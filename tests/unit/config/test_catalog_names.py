"""Tables of a pipeline in a schema of the catalog: names, locations, and a source that no table overlaps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pipeline_files import merged, refusal, write

from gliclass_spark.config.catalog import CatalogSchema, table_name, table_path
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.errors import ConfigError

AIRFLOW = {"cron": "0 2 * * *"}


@pytest.mark.parametrize("schema", ["mail", "main.mail", "`my-catalog`.mail", "main.`süd 1.5`"])
def test_tables_may_be_in_a_schema_of_one_or_two_names(pipelines: Path, schema: str) -> None:
    tables = Pipeline.from_yaml(write(pipelines, merged(tables={"schema": schema}))).tables
    assert table_name(tables, "tags") == f"{schema}.tags"
    assert table_name(tables, "2026") == f"{schema}.`2026`"
    with pytest.raises(ConfigError, match=r"tags can't be read without Spark, .*; add a 'location'"):
        table_path(tables, "tags")


def test_a_location_is_a_path_as_any_other(pipelines: Path, tmp_path: Path) -> None:
    document = merged(tables={"schema": "main.mail", "location": "../../lake"}, airflow=AIRFLOW)
    tables = Pipeline.from_yaml(write(pipelines, document)).tables
    assert tables == CatalogSchema(schema="main.mail", location=f"{tmp_path}/lake")
    assert table_path(tables, "tags") == f"{tmp_path}/lake/tags"


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        (
            {"schema": "my-mail"},
            "tables.schema: 'my-mail' is no schema; write `schema` or `catalog.schema`, names",
        ),
        ({"schema": "a.b.c"}, "tables.schema: 'a.b.c' is no schema; write"),
        ({"schema": "a`.`b"}, "tables.schema: 'a`.`b' is no schema; write"),
        ({"schema": "delta.`/lake`"}, "tables.schema: 'delta.`/lake`' is no schema; write"),
        ({"location": "lake"}, "'tables.schema' is missing; add it"),
        ({"schema": "mail", "path": "lake"}, "unknown key 'tables.path'; remove it"),
        ({"schema": "mail", "location": "~/lake"}, "tables.location: '~/lake' starts with ~"),
        (3, "tables: 3 is no place for tables; write a folder, or {schema: catalog.schema}"),
    ],
)
def test_any_other_place_is_refused(pipelines: Path, tables: Any, message: str) -> None:
    assert refusal(pipelines, merged(tables=tables)).startswith(message)


def test_airflow_needs_a_location(pipelines: Path) -> None:
    assert refusal(pipelines, merged(tables={"schema": "main.mail"}, airflow=AIRFLOW)) == (
        "the document: 'airflow' needs a 'location' beside the schema main.mail in 'tables', a folder or object store "
        "URI: Airflow's checks read the tables without Spark, which alone knows where the catalog has put them"
    )


@pytest.mark.parametrize(
    ("source", "overlaps"),
    [
        ("main.mail.tags", True),
        ("MAIN.`mail`.unrouted", True),
        ("mail.runs", True),  # in the session's catalog, which may be main
        ("kept", True),
        ("main.mail.raw", False),
        ("other.mail.tags", False),
        ("main.tags.mail", False),
    ],
)
def test_a_source_with_the_name_of_a_table_that_the_jobs_write_is_refused(
    pipelines: Path, source: str, overlaps: bool
) -> None:
    document = merged(source={"path": ..., "table": source}, tables={"schema": "main.mail"})
    if not overlaps:
        Pipeline.from_yaml(write(pipelines, document))
        return
    assert f"source.table {source!r} may be the table" in refusal(pipelines, document)


def test_a_source_in_the_location_of_a_table_is_refused(pipelines: Path) -> None:
    document = merged(source={"path": "../../lake/kept"}, tables={"schema": "main.mail", "location": "../../lake"})
    assert "and the table 'kept', which is written to" in refusal(pipelines, document)
