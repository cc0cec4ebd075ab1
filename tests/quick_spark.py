"""Spark's settings for a handful of rows: planning and compiling take the time there, and the start of each JVM."""

from __future__ import annotations

SHORT_LIVED_JVM = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"

QUICK_SQL: dict[str, str] = {
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
    "spark.databricks.delta.snapshotPartitions": "1",
}

# For a process that does one thing and ends.
QUICK_SPARK: dict[str, str] = {
    **QUICK_SQL,
    "spark.ui.enabled": "false",
    "spark.driver.extraJavaOptions": SHORT_LIVED_JVM,
}
