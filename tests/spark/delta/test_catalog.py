"""Tables in a schema of the catalog: jobs, feedback and maintenance by name, layout, properties and comments."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from delta_pipeline import assert_follows_source, content, documents, pipeline_of, run_all, write
from pyspark.sql import Row, SparkSession
from quick_spark import QUICK_SPARK

from gliclass_spark.config.pipeline import Source
from gliclass_spark.errors import ConfigError, TableError
from gliclass_spark.runs.history import read_manifests
from gliclass_spark.runs.manifest import VersionRange
from gliclass_spark.spark.delta.schema import STAGED_SPEC, TAGS
from gliclass_spark.spark.delta.table_creation import ensure
from gliclass_spark.spark.delta.table_ref import TableRef
from gliclass_spark.spark.jobs import PipelineRun, is_up_to_date
from gliclass_spark.spark.jobs.feedback.ingestion import ingest
from gliclass_spark.spark.jobs.maintain import maintain
from gliclass_spark.spark.jobs.plan import plan
from gliclass_spark.spark.source import Documents

SCHEMA = "spark_catalog.support"
OUTPUT = {"properties": {"delta.logRetentionDuration": "interval 60 days", "team.owner": "lake"}}


@pytest.fixture
def schemas(spark: SparkSession) -> Iterator[None]:
    """The schemas `support`, for the tables, and `mail`, with the documents in a table `documents`."""
    for name in ("support", "mail"):
        spark.sql(f"CREATE SCHEMA {name}")
    spark.sql(
        "CREATE TABLE mail.documents (id STRING, body STRING, n INT) USING delta "
        "TBLPROPERTIES (delta.enableChangeDataFeed = true, delta.columnMapping.mode = 'name')"
    )
    documents(spark, range(4)).coalesce(1).writeTo("mail.documents").append()
    yield
    for name in ("support", "mail"):
        # One by one: Spark remembers the tables of a schema that is dropped with them.
        views = {row["viewName"] for row in spark.sql(f"SHOW VIEWS IN {name}").collect()}
        for row in spark.sql(f"SHOW TABLES IN {name}").where("NOT isTemporary").collect():
            table = row["tableName"]
            spark.sql(f"DROP {'VIEW' if table in views else 'TABLE'} {name}.{table}")
        spark.sql(f"DROP SCHEMA {name}")


def catalog_run(spark: SparkSession, model: str, folder: Path, **settings: Any) -> PipelineRun:
    source = {"table": "spark_catalog.`mail`.documents", "id": "id", "text": "body"}
    config = {"source": source, "tables": {"schema": SCHEMA}, **settings}
    return PipelineRun(spark, pipeline_of(folder, model, **config), "run-1", precision="float32")


def detail(run: PipelineRun, table: str) -> Row:
    return run.lake.table(table).handle(run.spark).detail().collect()[0]


@pytest.mark.long
def test_a_pipeline_runs_over_a_schema_of_the_catalog(
    spark: SparkSession, tiny_bi_encoder: str, tmp_path: Path, schemas: None, delta_run: PipelineRun
) -> None:
    run = catalog_run(spark, tiny_bi_encoder, tmp_path, output=OUTPUT)
    run_all(run, "run-1")
    assert content(run) == content(delta_run)
    tables = spark.sql(f"SHOW TABLES IN {SCHEMA}").where("NOT isTemporary")  # Spark lists the session's views, too
    names = {row["tableName"] for row in tables.collect()}
    assert names - {"staged"} == {"tags", "kept", "rejected", "quarantined", "odd", "unrouted", "runs"}
    for name in names:
        assert OUTPUT["properties"].items() <= detail(run, name)["properties"].items(), name
    assert detail(run, "odd")["description"] == "Kept documents of the route odd; written by pipeline mail"
    comments = {field.name: field.metadata.get("comment") for field in run.lake.read(spark, "odd").schema}
    assert comments["route"] == "the name of the route"
    assert comments["run_id"] == "the run that applied the rules"
    assert comments["body"] is None

    spark.sql("DELETE FROM mail.documents WHERE id = '1'")
    spark.sql("UPDATE mail.documents SET body = 'another document of the lake' WHERE id = '2'")
    spark.sql("ALTER TABLE mail.documents ADD COLUMN lang STRING")
    spark.sql("INSERT INTO mail.documents VALUES ('9', 'a new document in the lake', 9, 'en')")
    manifests = run_all(run, "run-2")
    assert (manifests["tag"].full_scan, manifests["tag"].tagged, manifests["tag"].tombstoned) == (False, 2, 1)
    assert_follows_source(run)
    assert is_up_to_date(run)

    file = tmp_path / "reviews.csv"
    file.write_text("doc_id,label,verdict,source,observed_at\n9,spam,rejected,ada,2030-01-01T00:00:00Z\n")
    assert ingest(spark, run.pipeline, str(file)).new == 1
    with pytest.raises(ConfigError) as refused:
        read_manifests(run.pipeline)
    assert str(refused.value) == (
        "spark_catalog.support.runs can't be read without Spark, which alone knows where it is; add a 'location', a "
        "folder or object store URI, to 'tables'"
    )


def test_no_spark_job_is_needed_for_the_version_the_location_and_the_row_count_of_a_table(
    spark: SparkSession, schemas: None
) -> None:
    table = TableRef(table="spark_catalog.mail.documents")
    detail = table.handle(spark).detail().collect()[0]
    version = table.handle(spark).history(1).collect()[0]["version"]
    context = spark.sparkContext
    context.setJobGroup("lookups", "what follows")
    try:
        assert table.latest(spark) == VersionRange(detail["id"], None, version)
        assert table.location(spark) == detail["location"]
        assert table.row_count(spark, None) == 4
    finally:
        context.setLocalProperty("spark.jobGroup.id", None)
    assert list(context.statusTracker().getJobIdsForGroup("lookups")) == []


def test_a_schema_that_does_not_exist_is_named_with_the_statement_that_creates_it(
    spark: SparkSession, tiny_bi_encoder: str, tmp_path: Path, schemas: None
) -> None:
    run = catalog_run(spark, tiny_bi_encoder, tmp_path, tables={"schema": "spark_catalog.absent"})
    with pytest.raises(TableError) as refused:
        run_all(run, "run-1")
    assert str(refused.value) == (
        "there is no schema spark_catalog.absent for the tables; correct tables.schema, or run: "
        "CREATE SCHEMA spark_catalog.absent"
    )


def test_something_else_under_a_table_s_name_is_refused_before_any_work(
    spark: SparkSession, tiny_bi_encoder: str, tmp_path: Path, schemas: None
) -> None:
    spark.sql("CREATE VIEW support.tags AS SELECT * FROM mail.documents")
    run = catalog_run(spark, tiny_bi_encoder, tmp_path)
    with pytest.raises(TableError, match=r"^spark_catalog\.support\.tags is no Delta table; rename it, or"):
        run_all(run, "run-1")
    assert not run.lake.exists(spark, "runs")


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ({"partition_by": ["country"]}, "output.partition_by names 'country', which is no column of the tables; they"),
        ({"cluster_by": ["scores"]}, "output.cluster_by names 'scores', which is map<string,float>; name a column of"),
    ],
)
def test_a_layout_by_a_column_that_can_t_be_is_refused_before_any_work(
    spark: SparkSession,
    tiny_bi_encoder: str,
    tmp_path: Path,
    schemas: None,
    output: dict[str, Any],
    message: str,
) -> None:
    run = catalog_run(spark, tiny_bi_encoder, tmp_path, output=output)
    with pytest.raises(TableError) as refused:
        run_all(run, "run-1")
    assert str(refused.value).startswith(f"table spark_catalog.`mail`.documents: {message}")
    assert not run.lake.exists(spark, "runs")


def test_views_and_tables_of_other_formats_are_sources_without_versions(spark: SparkSession, schemas: None) -> None:
    spark.sql("CREATE TABLE mail.copies USING parquet AS SELECT * FROM mail.documents")
    spark.sql("CREATE VIEW mail.even AS SELECT * FROM mail.documents WHERE n % 2 = 0")
    spark.table("mail.documents").createOrReplaceTempView("`my-view 1.0`")
    for name, ids in (("spark_catalog.mail.copies", "123"), ("mail.even", "2"), ("`my-view 1.0`", "123")):
        source = Documents(spark, Source(table=name, id="id", text="body", where="n > 0"))
        assert source.delta is None
        assert sorted(row["doc_id"] for row in source.read().collect()) == list(ids)


def test_promise_4_a_creation_that_was_killed_before_the_catalog_had_the_table_is_completed(
    spark: SparkSession, schemas: None
) -> None:
    table = TableRef(table=f"{SCHEMA}.staged")
    ensure(spark, table, STAGED_SPEC)
    folder = Path(urlsplit(table.location(spark)).path)
    shutil.copytree(folder, folder.with_name("copy"))
    spark.sql(f"DROP TABLE {SCHEMA}.staged")
    folder.with_name("copy").rename(folder)
    ensure(spark, table, STAGED_SPEC)
    assert table.read(spark, None).columns == TAGS.names
    assert table.location(spark) == f"file:{folder}"


def test_a_source_in_the_folder_of_a_table_is_refused_before_any_work(
    spark: SparkSession, tiny_bi_encoder: str, tmp_path: Path, schemas: None
) -> None:
    location = spark.sql("DESCRIBE SCHEMA support").where("info_name = 'Location'").collect()[0]["info_value"]
    documents(spark, range(2)).write.format("delta").save(f"{location}/kept")
    spark.sql(f"CREATE TABLE mail.other_name USING delta LOCATION '{location}/kept'")
    by_path = {"path": urlsplit(location).path + "/kept", "id": "id", "text": "body"}
    by_name = {"table": "mail.other_name", "id": "id", "text": "body"}
    for source in (by_path, by_name):
        run = catalog_run(spark, tiny_bi_encoder, tmp_path, source=source)
        with pytest.raises(TableError, match=r"and the table spark_catalog\.support\.kept, .*, overlap;"):
            run_all(run, "run-1")
        assert not run.lake.exists(spark, "runs")


@pytest.mark.long
def test_a_changed_layout_is_applied_to_tables_that_exist_or_refused(
    spark: SparkSession, tiny_bi_encoder: str, tmp_path: Path, delta_run: PipelineRun
) -> None:
    def with_settings(**settings: Any) -> PipelineRun:
        return replace(delta_run, pipeline=pipeline_of(tmp_path, tiny_bi_encoder, **settings))

    clustered = with_settings(output={**OUTPUT, "cluster_by": ["n", "doc_id"]})
    run_all(clustered, "run-2")
    for name in ("kept", "odd"):
        assert detail(clustered, name)["clusteringColumns"] == ["n", "doc_id"]
    for name in ("tags", "kept", "odd", "runs"):
        assert OUTPUT["properties"].items() <= detail(clustered, name)["properties"].items()
    assert detail(clustered, "tags")["clusteringColumns"] == ["label_set_hash", "doc_id"]

    # A column that goes replaces the tables; they keep their layout and their comments.
    source = {"path": "documents", "id": "id", "text": "body", "columns": []}
    narrow = with_settings(source=source, routes=[], output={"cluster_by": ["body"]})
    run_all(narrow, "run-3")
    kept = narrow.lake.read(spark, "kept")
    assert "n" not in kept.columns
    assert kept.schema["rules_hash"].metadata["comment"] == "SHA-256 of the rules"
    assert detail(narrow, "kept")["clusteringColumns"] == ["body"]
    partitioned = with_settings(output={"partition_by": ["n"]})
    with pytest.raises(TableError) as refused:
        run_all(partitioned, "run-4")
    assert str(refused.value) == (
        f"{tmp_path}/lake/kept is partitioned by nothing, and output.partition_by says n, which can't be changed: "
        "set it back, or drop the pipeline's tables of decided documents (kept, rejected, quarantined, one for each "
        "route) and run filter and route with --full"
    )


@pytest.mark.long
def test_partitioned_tables_stay_so_when_a_column_goes(
    spark: SparkSession, tiny_bi_encoder: str, tmp_path: Path, schemas: None
) -> None:
    spark.sql("ALTER TABLE mail.documents ADD COLUMN lang STRING")
    output = {"partition_by": ["n"]}
    run_all(catalog_run(spark, tiny_bi_encoder, tmp_path, output=output), "run-1")
    spark.sql("ALTER TABLE mail.documents DROP COLUMN lang")
    run = catalog_run(spark, tiny_bi_encoder, tmp_path, output=output)
    run_all(run, "run-2")
    assert_follows_source(run)
    for name in ("kept", "rejected", "quarantined", "odd", "unrouted"):
        assert detail(run, name)["partitionColumns"] == ["n"], name


@pytest.mark.long
def test_tables_with_a_location_are_external_and_are_read_there_without_spark(
    spark: SparkSession, tiny_bi_encoder: str, tmp_path: Path, schemas: None
) -> None:
    run = catalog_run(spark, tiny_bi_encoder, tmp_path, tables={"schema": SCHEMA, "location": str(tmp_path / "lake")})
    run_all(run, "run-1")
    assert detail(run, "kept")["location"] == f"file:{tmp_path}/lake/kept"
    assert {manifest.job for manifest in read_manifests(run.pipeline)} == {"tag", "filter", "route"}
    assert spark.table(f"{SCHEMA}.kept").count() == 4
    # As a run leaves a table that was killed before the catalog had it, and a table that the catalog never had.
    spark.sql(f"DROP TABLE {SCHEMA}.kept")
    with pytest.raises(TableError) as refused:
        run_all(replace(run, full=True), "run-2")
    assert str(refused.value) == (
        f"{tmp_path}/lake/kept holds a Delta table that the catalog does not know as {SCHEMA}.kept; run: CREATE TABLE "
        f"IF NOT EXISTS {SCHEMA}.kept USING delta LOCATION '{tmp_path}/lake/kept'"
    )
    spark.sql(str(refused.value).rpartition("run: ")[2])
    run_all(replace(run, full=True), "run-3")
    assert_follows_source(run)


@pytest.mark.long
def test_tables_of_a_folder_become_those_of_a_schema_for_every_command(
    spark: SparkSession, tiny_bi_encoder: str, tmp_path: Path, schemas: None, delta_run: PipelineRun
) -> None:
    tables = {"schema": SCHEMA, "location": delta_run.pipeline.tables}
    run = replace(delta_run, pipeline=pipeline_of(tmp_path, tiny_bi_encoder, tables=tables))
    for folder in (tmp_path / "lake").iterdir():
        spark.sql(f"CREATE TABLE {SCHEMA}.{folder.name} USING delta LOCATION '{folder}'")
    assert plan(run).to_tag == 0
    file = tmp_path / "reviews.csv"
    file.write_text("doc_id,label,verdict,source,observed_at\n1,spam,rejected,ada,2030-01-01T00:00:00Z\n")
    assert (ingest(spark, run.pipeline, str(file)).new, ingest(spark, run.pipeline, str(file)).duplicates) == (1, 1)
    assert {size.table for size in maintain(spark, run.pipeline)} >= {"tags", "kept", "odd", "runs", "feedback"}
    write(documents(spark, [7]), tmp_path)
    assert run_all(run, "run-2")["tag"].tagged == 1
    assert_follows_source(run)


IN_HIVE = """
import sys
from pathlib import Path
from gliclass_spark.spark.session import spark_session
sys.path += sys.argv[3:]
from delta_pipeline import documents, pipeline_of, run_all
from gliclass_spark.spark.jobs import PipelineRun
folder = Path(sys.argv[1])
spark = spark_session(folder / "hive.yaml")
spark.sql("CREATE SCHEMA support")
documents(spark, range(4)).write.format("delta").saveAsTable("mail")
source = {"table": "default.mail", "id": "id", "text": "body"}
run = PipelineRun(spark, pipeline_of(folder, sys.argv[2], source=source, tables={"schema": "support"}), "run-1")
run_all(run, "run-1")
spark.sql("DELETE FROM mail WHERE id = '1'")
run_all(run, "run-2")
assert sorted(row["doc_id"] for row in run.lake.read(spark, "kept").collect()) == ["0", "2", "3"]
assert spark.conf.get("spark.sql.catalogImplementation") == "hive"
print(sorted(row["tableName"] for row in spark.sql("SHOW TABLES IN support").collect()))
"""


@pytest.mark.long
def test_a_hive_metastore_holds_the_tables(tiny_bi_encoder: str, tmp_path: Path, quick_java: None) -> None:
    conf = {
        **QUICK_SPARK,
        "spark.sql.catalogImplementation": "hive",
        "spark.sql.warehouse.dir": f"{tmp_path}/warehouse",
        "spark.hadoop.javax.jdo.option.ConnectionURL": f"jdbc:derby:;databaseName={tmp_path}/metastore;create=true",
    }
    (tmp_path / "hive.yaml").write_text(yaml.safe_dump(conf))
    command = [sys.executable, "-c", IN_HIVE, str(tmp_path), tiny_bi_encoder, *sys.path]
    job = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert job.returncode == 0, job.stderr
    assert job.stdout.splitlines()[-1] == "['kept', 'odd', 'quarantined', 'rejected', 'runs', 'tags', 'unrouted']"
