"""Columns of the documents: any name and type, changed, added and removed while the pipeline runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from delta.tables import DeltaTable
from delta_pipeline import alter, assert_follows_source, documents, pipeline_of, run_all, source, table_rows, write
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know
from pyspark.sql.types import ArrayType, IntegerType, MapType, StringType, StructField, StructType

from gliclass_spark.config.output import Output
from gliclass_spark.errors import TableError
from gliclass_spark.spark.delta.schema import KEY, TAGS_SPEC, decisions_spec
from gliclass_spark.spark.delta.table_creation import create
from gliclass_spark.spark.delta.table_ref import TableRef
from gliclass_spark.spark.jobs import PipelineRun, filter_step, tag_step
from gliclass_spark.spark.jobs.maintain import maintain

NO_ROUTES = {"steps": ["tag", "filter"], "routes": []}
# Types and names that Spark does not compare, that need a table feature, or that are those of helper columns elsewhere.
COLUMNS = {
    "attributes": "map('acl', 'public')",
    "headers": "named_struct('content-type', map('a', 'b'), 'x y', 1)",
    "parts": "array(map('a', 1))",
    "raw": """parse_json('{"a": 1}')""",
    "Message ID,(1)": "concat('<', id, '>')",
    "routes": "concat('bus ', id)",
    "_rank": "n * 10",
    "table": "'t'",
    "in_scope": "false",
    "seen": "timestamp_ntz'2026-01-01 08:00:00.000001'",
}


@pytest.fixture
def make(spark: SparkSession, tiny_bi_encoder: str, tmp_path: Path) -> Any:
    def make(rows: DataFrame, **settings: Any) -> PipelineRun:
        write(rows, tmp_path)
        return PipelineRun(spark, pipeline_of(tmp_path, tiny_bi_encoder, **settings), "run-1", precision="float32")

    return make


def with_columns(rows: DataFrame) -> DataFrame:
    return rows.withColumns({name: F.expr(sql) for name, sql in COLUMNS.items()})


@pytest.mark.long
def test_columns_of_any_name_and_type_go_along_and_follow_their_changes(make: Any, tmp_path: Path) -> None:
    run = make(with_columns(documents(_spark(), range(3))))
    run_all(run, "run-1")
    changed = {
        "attributes": "map('acl', 'secret')",
        "headers": "named_struct('content-type', map('a', 'c'), 'x y', 1)",
        "parts": "array(map('a', 2))",
        "raw": "parse_json('2')",
        "seen": "timestamp_ntz'2026-01-01 08:00:00.000002'",
    }
    for number, (name, value) in enumerate(changed.items()):
        source(run).update(f"n = {number % 3}", {name: value})
    write(with_columns(documents(_spark(), [3])), tmp_path)
    done = run_all(run, "run-2")
    assert [manifest.full_scan for manifest in done.values()] == [False, False, False]
    assert_follows_source(run)
    # Equal rows are recognised, and not written again.
    before = run.lake.latest(run.spark, ["kept"])
    filter_step(replace(run, run_id="run-3", full=True))
    assert run.lake.latest(run.spark, ["kept"]) == before


@pytest.mark.long
def test_columns_that_change_change_the_tables(make: Any, tmp_path: Path) -> None:
    base = documents(_spark(), range(3)).withColumns({"meta": F.expr("named_struct('a', 1)"), "size": F.lit(1)})
    run = make(base, **NO_ROUTES)
    run_all(run, "run-1")
    # New columns, of types that need a table feature, of names that need column mapping; a new field; a wider type.
    alter(run, "SET TBLPROPERTIES (delta.enableTypeWidening = true, delta.feature.timestampNtz = 'supported')")
    alter(run, "ALTER COLUMN size TYPE bigint")
    new = base.withColumns(
        {"id": F.concat("id", F.lit("x")), "meta": F.expr("named_struct('a', 1, 'b, (c)', 2)"), "size": F.lit(2**40)}
    )
    new = new.withColumns({name: F.expr(COLUMNS[name]) for name in ("seen", "raw", "Message ID,(1)")})
    tag_step(replace(run, run_id="run-2"))
    write(new, tmp_path, mergeSchema="true")  # between the tag job and the filter job of a run
    assert filter_step(replace(run, run_id="run-2")).documents == 3
    done = run_all(run, "run-3")["filter"]
    assert "the documents' columns changed: every document was decided about again" in str(done.message)
    assert_follows_source(run)
    assert run_all(run, "run-4")["filter"].full_scan is False


@pytest.mark.long
def test_a_column_taken_out_of_the_pipeline_leaves_every_table(make: Any, tmp_path: Path, tiny_bi_encoder: str) -> None:
    run = make(documents(_spark(), range(3)).withColumn("email", F.lit("ada@example.com")))
    run_all(run, "run-1")
    columns = {"path": "documents", "id": "id", "text": "body", "columns": ["n"]}
    narrow = replace(run, pipeline=pipeline_of(tmp_path, tiny_bi_encoder, source=columns))
    run_all(narrow, "run-2")
    names = ("kept", "rejected", "quarantined", "odd", "unrouted")
    assert {name for name in names if "email" in run.lake.read(run.spark, name).columns} == set()
    assert_follows_source(narrow)


@pytest.mark.long
def test_a_kill_before_a_new_column_is_filled_leaves_it_to_the_next_run(
    unrouted_run: PipelineRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gliclass_spark.spark.jobs import decision_tables

    run = unrouted_run
    write(documents(_spark(), [4]).withColumn("lang", F.lit("xx")), tmp_path, mergeSchema="true")
    source(run).update("n < 4", {"lang": "'yy'"})

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(decision_tables.DecisionTables, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        run_all(run, "run-2")
    monkeypatch.undo()
    run_all(run, "run-3")
    assert {row["lang"] for row in table_rows(run, "kept")} == {"xx", "yy"}
    assert_follows_source(run)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("pause", "interval 1 day", "Delta can't store the column 'pause', which holds interval"),
        ("nothing", "named_struct('a', null)", "Delta can't store the column 'nothing', which holds void"),
        ("back`quote", "1", "Delta can't update a table with the column 'back`quote', whose name has a backquote"),
    ],
)
def test_a_column_that_delta_cannot_store_stops_the_run_before_any_text_is_scored(
    spark: SparkSession, tiny_bi_encoder: str, tmp_path: Path, name: str, value: str, message: str
) -> None:
    documents(spark, range(2)).withColumn(name, F.expr(value)).createOrReplaceTempView("unstorable")
    table = {"table": "unstorable", "id": "id", "text": "body"}
    run = PipelineRun(spark, pipeline_of(tmp_path, tiny_bi_encoder, source=table), "run-1")
    with pytest.raises(TableError, match=rf"{message}.*source.columns"):
        tag_step(run)
    assert not (tmp_path / "lake").exists()


@pytest.mark.long
def test_hostile_column_names_stay_names_at_every_depth(unrouted_run: PipelineRun, tmp_path: Path) -> None:
    run = unrouted_run
    name = "a:int>,injected:struct<b"
    columns = {
        f"{name} int, top": F.lit(1),
        "field": F.expr("named_struct('x', 1)").cast(f"struct<`{name}`:int>"),
        "elements": F.expr("array(named_struct('x', 1))").cast(f"array<struct<`{name}`:int>>"),
        "entries": F.expr("map('k', named_struct('x', 1))").cast(f"map<string,struct<`{name}`:int>>"),
    }
    write(documents(_spark(), [4]).withColumns(columns), tmp_path, mergeSchema="true")
    run_all(run, "run-2")
    assert "injected" not in run.lake.read(run.spark, "kept").columns
    assert_follows_source(run)


def test_hostile_column_names_stay_names_in_a_table_that_is_created(spark: SparkSession, tmp_path: Path) -> None:
    nested = StructType([StructField(name, IntegerType()) for name in ("a` INT>, `injected", "b:int>,injected:int")])
    columns = {"top INT, injected": nested, "elements": ArrayType(nested), "entries": MapType(StringType(), nested)}
    schema = StructType([StructField(KEY, StringType()), *(StructField(*column) for column in columns.items())])
    table = TableRef(path=str(tmp_path / "kept"))
    create(spark, table, decisions_spec("kept", schema, Output()))
    created = table.read(spark, None).schema
    assert [(field.name, field.dataType) for field in created] == [(field.name, field.dataType) for field in schema]


def test_defaults_of_a_cluster_do_not_reach_the_tables(spark: SparkSession, tmp_path: Path) -> None:
    defaults = ("enableTypeWidening", "enableIcebergCompatV2")
    for name in defaults:
        spark.conf.set(f"spark.databricks.delta.properties.defaults.{name}", "true")
    try:
        create(spark, TableRef(path=str(tmp_path / "tags")), TAGS_SPEC)
    finally:
        for name in defaults:
            spark.conf.unset(f"spark.databricks.delta.properties.defaults.{name}")
    features = DeltaTable.forPath(spark, str(tmp_path / "tags")).detail().collect()[0]["tableFeatures"]
    assert not {"typeWidening", "typeWidening-preview", "icebergCompatV2"} & set(features)


@pytest.mark.long
def test_maintain_vacuums_the_tables_of_former_routes(
    delta_run: PipelineRun, tmp_path: Path, tiny_bi_encoder: str
) -> None:
    renamed = pipeline_of(tmp_path, tiny_bi_encoder, routes=[{"route": "uneven", "when": "n % 2 = 1"}])
    DeltaTable.forPath(delta_run.spark, delta_run.lake.path("odd")).delete()  # as the next run does
    alter(delta_run, "SET TBLPROPERTIES (delta.deletedFileRetentionDuration = 'interval 0 hours')", "odd")
    assert "odd" in [size.table for size in maintain(delta_run.spark, renamed)]
    assert list((tmp_path / "lake" / "odd").glob("*.parquet")) == []


def _spark() -> SparkSession:
    session = SparkSession.getActiveSession()
    assert session is not None
    return session
