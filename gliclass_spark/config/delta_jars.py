"""Delta's jars: the Spark settings that fetch them, unless they are installed with Spark, as in a container image."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

_SCALA = "2.13"
# Dependencies of Delta that Spark ships itself, in its own versions: 26 of 33 jars, which every session would copy.
_SHIPPED_WITH_SPARK = (
    "com.fasterxml.jackson*:*",
    "com.github.luben:*",
    "com.google.code.findbugs:*",
    "commons-logging:*",
    "commons-pool:*",
    "io.airlift:*",
    "javax.annotation:*",
    "org.apache.*:*",
    "org.locationtech.jts:*",
    "org.roaringbitmap:*",
    "org.slf4j:*",
    "org.xerial.snappy:*",
)


def delta_settings(settings: Mapping[str, str]) -> dict[str, str]:
    """Return Spark's settings that fetch the Delta release for the installed Spark.

    Empty if `settings` has jars or packages of its own, or if Delta is in pyspark's folder of jars.
    """
    if {"spark.jars", "spark.jars.packages"} & settings.keys() or _delta_is_installed():
        return {}
    spark = ".".join(version("pyspark").split(".")[:2])
    return {
        "spark.jars.packages": f"io.delta:delta-spark_{spark}_{_SCALA}:{version('delta-spark')}",
        "spark.jars.excludes": ",".join(_SHIPPED_WITH_SPARK),
    }


def _delta_is_installed() -> bool:
    # Without importing pyspark: Airflow's processes call this, too.
    spark = find_spec("pyspark")
    folders = spark.submodule_search_locations if spark is not None else None
    return any(jar.is_file() for folder in folders or () for jar in Path(folder).glob("jars/delta-spark_*.jar"))
