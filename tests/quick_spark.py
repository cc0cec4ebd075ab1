"""Spark's settings for a handful of rows: planning and compiling take the time there."""

from __future__ import annotations

import shlex
from typing import Any

from py4j.java_gateway import JavaClass, JavaPackage, JVMView

QUICK_SPARK: dict[str, str] = {
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.lightweightPlanChangeValidation": "false",
    # Of each query's plan, which Spark writes as text for its user interface, as one tree.
    "spark.sql.ui.explainMode": "simple",
    "spark.databricks.delta.snapshotPartitions": "1",
    # Each commit would write the table's files into its checksum file, too, for Delta's own verification.
    "spark.databricks.delta.allFilesInCrc.enabled": "false",
    # Each call of a function of columns would tell Java the line that it is from.
    "spark.python.sql.dataFrameDebugging.enabled": "false",
    "spark.ui.enabled": "false",
}


def submit_args() -> str:
    """Return the settings for `PYSPARK_SUBMIT_ARGS`, for a program that starts Spark with its defaults.

    A folder of SPARK_CONF_DIR would do, too, but Java leaves an archive of classes aside that was made without it.
    """
    settings = [argument for name, value in QUICK_SPARK.items() for argument in ("--conf", f"{name}={value}")]
    return shlex.join([*settings, "pyspark-shell"])


def cache_java_names() -> None:
    """Let py4j look up each Java class and package once for a JVM, from when all of its jars are loaded.

    Java searches its hundreds of jars whenever a name is used that is no class, as `io` and `io.delta` in the name of
    each Delta table: a tenth of a JVM's time here.
    """
    for scope in (JVMView, JavaPackage):
        look_up = scope.__getattr__

        def cached(self: Any, name: str, look_up: Any = look_up) -> Any:
            value = look_up(self, name)
            if isinstance(value, (JavaClass, JavaPackage)):
                self.__dict__[name] = value  # __getattr__ is called for attributes that are not there
            return value

        scope.__getattr__ = cached
