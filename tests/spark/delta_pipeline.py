"""A small pipeline over a Delta table, for tests that change the table and run the pipeline again."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import replace
from operator import itemgetter
from pathlib import Path
from typing import Any

import yaml
from delta.tables import DeltaTable
from pyspark.sql import DataFrame, SparkSession
from stored_tables import stored_table

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.runs.manifest import Manifest
from gliclass_spark.spark.delta.schema import TAGS
from gliclass_spark.spark.delta.table_ref import TableRef
from gliclass_spark.spark.jobs import STEPS, PipelineRun

# What the jobs add to the columns of the documents.
ADDED = {"rules_hash", "reason", "route", "run_id", *TAGS.names} - {"doc_id"}
LINEAGE = {"run_id", "tagged_at", "deleted_at", "scores", "propensities"}


def pipeline_of(folder: Path, model: str, **settings: Any) -> Pipeline:
    """Return a pipeline of the table `folder`/documents, from a file of its own."""
    config = {
        "name": "mail",
        "source": {"path": "documents", "id": "id", "text": "body"},
        "label_set": ["spam", "lake"],
        "model": model,
        "tables": "lake",
        "reject": [{"reason": "short", "when": "token_count < 4"}],
        "routes": [{"route": "odd", "when": "n % 2 = 1"}],
        "max_error_ratio": 0.5,
        **settings,
    }
    path = folder / f"pipeline-{len(list(folder.glob('pipeline-*')))}.yaml"
    path.write_text(yaml.safe_dump(config))
    return Pipeline.from_yaml(path)


def documents(
    spark: SparkSession, numbers: range | list[int], text: str = "document {} of a lake of data"
) -> DataFrame:
    """Return documents with the columns id, body and n."""
    rows = [(str(number), text.format(number), number) for number in numbers]
    return spark.createDataFrame(rows, "id string, body string, n int")


def write(rows: DataFrame, folder: Path, **options: str) -> None:
    """Append rows to the table `folder`/documents, which has a change data feed and takes columns of any name."""
    path = str(folder / "documents")
    table = DeltaTable.createIfNotExists(rows.sparkSession).location(path).addColumns(rows.schema)
    table.property("delta.enableChangeDataFeed", "true").property("delta.columnMapping.mode", "name").execute()
    rows.coalesce(1).write.format("delta").mode("append").options(**options).save(path)


def source(run: PipelineRun) -> DeltaTable:
    """Return the pipeline's source."""
    return DeltaTable.forPath(run.spark, str(run.pipeline.source.path))


def alter(run: PipelineRun, change: str, table: str | None = None) -> None:
    """Run an ALTER TABLE statement on the source, or on a table of the pipeline."""
    path = run.lake.path(table) if table else run.pipeline.source.path
    run.spark.sql(f"ALTER TABLE delta.`{path}` {change}")


def run_all(run: PipelineRun, run_id: str) -> dict[str, Manifest]:
    """Run the pipeline's steps."""
    return {step: STEPS[step](replace(run, run_id=run_id)) for step in run.pipeline.steps}


def content(run: PipelineRun) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of every table, by id, without the columns about the run that wrote them and the scores."""
    tables = {"tag": ["tags"], "filter": ["kept", "rejected", "quarantined"], "route": run.pipeline.rules.destinations}
    return {name: table_rows(run, name) for step in run.pipeline.steps for name in tables[step]}


def table_rows(run: PipelineRun, name: str) -> list[dict[str, Any]]:
    """Return the rows of a table as `content` does."""
    _, rows = stored_table(run.spark, run.lake.table(name))
    live = [row for row in rows if row.get("deleted_at") is None]
    plain = [{column: value for column, value in row.items() if column not in LINEAGE} for row in live]
    return sorted(plain, key=lambda row: (str(row["doc_id"]), str(row["label_set_hash"])))


def assert_follows_source(run: PipelineRun) -> None:
    """Compare rows and columns of `kept`, and of all routes together, with the source's; no document is rejected."""
    source = run.pipeline.source
    types, rows = stored_table(run.spark, TableRef(source.path, source.table))
    selected = types if source.columns is None else (source.id, source.text, *source.columns)
    columns = {"doc_id": "string", **{name: types[name] for name in selected}}
    documents = [{**row, "doc_id": row[source.id]} for row in rows]
    expected = sorted(({name: row[name] for name in columns} for row in documents), key=itemgetter("doc_id"))
    assert {row["doc_id"] for row in table_rows(run, "tags")} == {row["doc_id"] for row in expected}
    assert _documents(run, ("kept",)) == (columns, expected)
    if "route" in run.pipeline.steps:
        assert _documents(run, run.pipeline.rules.destinations) == (columns, expected)


def _documents(run: PipelineRun, names: Iterable[str]) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Return the documents' columns in tables that have the same ones, and the tables' rows together by id."""
    tables = [stored_table(run.spark, run.lake.table(name)) for name in names]
    columns = {name: kind for name, kind in tables[0][0].items() if name not in ADDED}
    assert [table_columns for table_columns, _ in tables] == [tables[0][0]] * len(tables)
    documents = [{name: row[name] for name in columns} for _, rows in tables for row in rows]
    return columns, sorted(documents, key=itemgetter("doc_id"))


def fresh(run: PipelineRun) -> dict[str, list[dict[str, Any]]]:
    """Return the content of the tables of a pipeline with the same settings that has never run before."""
    tables = f"{run.pipeline.tables}-fresh"
    shutil.rmtree(tables, ignore_errors=True)
    untouched = replace(run, pipeline=run.pipeline.model_copy(update={"tables": tables}), full=False, until=None)
    run_all(untouched, "fresh")
    return content(untouched)
