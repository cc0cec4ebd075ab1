"""Where Spark finds Delta: fetched on a laptop; in an image its jars lie beside Spark's own."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

_SCALA = "2.13"
# What Delta asks for and Spark brings itself, in versions of its own: 26 of 33 jars, which every session would copy.
_SPARKS_OWN = (
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
    """Spark's settings that fetch Delta for the Spark that is installed here.

    None where `settings` names jars or packages itself, and where Delta lies in pyspark's folder of jars.
    """
    if {"spark.jars", "spark.jars.packages"} & settings.keys() or _has_delta():
        return {}
    spark = ".".join(version("pyspark").split(".")[:2])
    return {
        "spark.jars.packages": f"io.delta:delta-spark_{spark}_{_SCALA}:{version('delta-spark')}",
        "spark.jars.excludes": ",".join(_SPARKS_OWN),
    }


def _has_delta() -> bool:
    # Found and not imported: Airflow's own processes ask, too.
    spark = find_spec("pyspark")
    folders = spark.submodule_search_locations if spark is not None else None
    return any(jar.is_file() for folder in folders or () for jar in Path(folder).glob("jars/delta-spark_*.jar"))
