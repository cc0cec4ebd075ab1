"""Catalog-managed tables: the catalog has commits that the table's log lacks, as in Unity Catalog."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from delta_pipeline import documents, pipeline_of, run_all
from pyspark.sql import SparkSession
from stored_tables import stored_rows

from gliclass_spark.runs.manifest import VersionRange
from gliclass_spark.spark.delta.table_ref import TableRef
from gliclass_spark.spark.jobs import PipelineRun

NAME = "spark_catalog.default.managed_mail"
FEATURES = {
    "readerFeatures": ["catalogManaged", "vacuumProtocolCheck"],
    "writerFeatures": ["catalogManaged", "vacuumProtocolCheck", "inCommitTimestamp"],
}
# Delta's own coordinator in memory writes commits into the log once there are so many.
COMMITS_OUTSIDE = 10


@pytest.fixture(scope="module")
def managed(spark: SparkSession) -> Iterator[TableRef]:
    """A catalog-managed table of four documents. Delta creates one for a catalog server alone: its log is edited.

    Its commits go to Delta's own coordinator, in memory, which stays registered as long as the JVM lives.
    """
    coordinators = spark._jvm.org.apache.spark.sql.delta.coordinatedcommits
    builder = coordinators.InMemoryCommitCoordinatorBuilder(COMMITS_OUTSIDE)
    coordinators.CatalogOwnedCommitCoordinatorProvider.registerBuilder("spark_catalog", builder)
    spark.sql(
        f"CREATE TABLE {NAME} (id STRING, body STRING, n INT) USING delta TBLPROPERTIES "
        "(delta.enableChangeDataFeed = true, delta.enableInCommitTimestamps = true)"
    )
    table = TableRef(table=NAME)
    path = table.local_path(spark)
    assert path is not None
    log = Path(path, "_delta_log")
    [commit] = log.glob("*.json")
    actions = [json.loads(line) for line in commit.read_text().splitlines()]
    [protocol] = [action["protocol"] for action in actions if "protocol" in action]
    protocol.update({"minReaderVersion": 3, "minWriterVersion": 7})
    for kind, names in FEATURES.items():
        protocol[kind] = sorted({*protocol.get(kind, []), *names})
    commit.write_text("\n".join(map(json.dumps, actions)))
    for checksum in log.glob("*.crc"):
        checksum.unlink()
    spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()
    documents(spark, range(4)).coalesce(1).writeTo(NAME).append()
    yield table
    spark.sql(f"DROP TABLE {NAME}")


def test_the_latest_version_is_that_of_the_catalog(spark: SparkSession, managed: TableRef) -> None:
    detail = managed.handle(spark).detail().collect()[0]
    commits = managed.handle(spark).history(1).collect()[0]
    log = Path(detail["location"].removeprefix("file:"), "_delta_log")
    assert [path.name for path in log.glob("*.json")] == ["00000000000000000000.json"]
    assert commits["version"] > 0
    assert managed.latest(spark) == VersionRange(detail["id"], None, commits["version"])
    assert managed.location(spark) == detail["location"]
    assert managed.local_path(spark) is None
    assert managed.row_count(spark, None) == spark.table(NAME).count()


@pytest.mark.long
def test_a_run_reads_the_changes_of_a_catalog_managed_source(
    spark: SparkSession, managed: TableRef, tiny_bi_encoder: str, tmp_path: Path
) -> None:
    pipeline = pipeline_of(tmp_path, tiny_bi_encoder, source={"table": NAME, "id": "id", "text": "body"})
    run = PipelineRun(spark, pipeline, "run-1", precision="float32")
    assert run_all(run, "run-1")["tag"].tagged == 4
    documents(spark, [7]).writeTo(NAME).append()
    tagged = run_all(run, "run-2")["tag"]
    assert (tagged.full_scan, tagged.tagged) == (False, 1)
    kept = stored_rows(run.lake.path("kept"))
    assert {row["doc_id"] for row in kept} == {row["id"] for row in spark.table(NAME).collect()}
