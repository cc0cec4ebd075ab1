"""Spark's settings for a handful of rows: planning and compiling take the time there."""

from __future__ import annotations

import shlex

QUICK_SPARK: dict[str, str] = {
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.lightweightPlanChangeValidation": "false",
    "spark.databricks.delta.snapshotPartitions": "1",
    "spark.ui.enabled": "false",
}


def submit_args() -> str:
    """Return the settings for `PYSPARK_SUBMIT_ARGS`, for a program that starts Spark with its defaults.

    A folder of SPARK_CONF_DIR would do, too, but Java leaves an archive of classes aside that was made without it.
    """
    settings = [argument for name, value in QUICK_SPARK.items() for argument in ("--conf", f"{name}={value}")]
    return shlex.join([*settings, "pyspark-shell"])
