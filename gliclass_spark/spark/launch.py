"""Start of Spark's Java process: its environment, its log, and one line about why it does not start."""

from __future__ import annotations

import locale
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyspark
from pyspark import SparkConf, SparkContext
from pyspark.java_gateway import launch_gateway
from pyspark.logger import PySparkLogger

from gliclass_spark.errors import ConfigError, SparkStartError
from gliclass_spark.spark.spark_errors import SPARK_ERRORS, root_cause

_UTF_8_LOCALE = "C.UTF-8"
_CORE_JAR = re.compile(r"spark-core_[\d.]+-(\d+\.\d+)\.")
_IN_FILE = "in the file of --conf"
# What Java prints before it ends, and what to do about it. The first that matches counts.
_FAILURES = (
    (
        r"(?P<folder>\?/\.ivy\S*)",
        "Java knows no home folder of this user ({folder}); set spark.jars.ivy to a folder for downloaded jars "
        f"{_IN_FILE}, or give the user a home",
    ),
    (
        r"unresolved dependency: (?P<package>[^\s:]+)",
        "the jars of {package} could not be downloaded; check the network and spark.jars.packages, or name local jars "
        f"with spark.jars {_IN_FILE}",
    ),
    (r"^(?P<line>(?:Unrecognized|Could not create|Invalid|Error occurred|Error:).*)", "Java prints: {line}"),
    (r'Exception in thread "main" (?P<line>.*)', "Java prints: {line}"),
)


def check_spark_home() -> None:
    """Raise SparkStartError if SPARK_HOME is set to a folder without Spark, or with another version than PySpark's."""
    home = os.environ.get("SPARK_HOME")
    if home is None:
        return
    expected = ".".join(pyspark.__version__.split(".")[:2])
    fix = f"unset it to use the Spark {expected} of this Python environment, or set it to a Spark {expected}"
    if not Path(home, "bin", "spark-submit").is_file():
        raise SparkStartError(f"SPARK_HOME is {home!r}, where there is no bin/spark-submit; {fix}")
    versions = [match[1] for jar in Path(home).glob("jars/spark-core_*.jar") if (match := _CORE_JAR.match(jar.name))]
    if versions and expected not in versions:
        raise SparkStartError(f"SPARK_HOME is {home!r}, a Spark {versions[0]}, but PySpark is {expected}; {fix}")


def launch_java(settings: Mapping[str, str], log: Path | None) -> None:
    """Start the Java process of this Python process with Spark's settings, unless it runs already.

    `log` is the file for all that Java prints; None: it goes to this process's own output. Raises SparkStartError
    if Java ends at once.
    """
    if SparkContext._gateway is not None or "PYSPARK_GATEWAY_PORT" in os.environ:
        return
    check_spark_home()
    conf = SparkConf(loadDefaults=False)
    conf.setAll(list(settings.items()))
    with _utf_8_locale(), starting_spark(log):
        launch: Any = launch_gateway  # it has no annotations
        if log is None:
            gateway = launch(conf)
        else:
            with log.open("ab") as output:
                gateway = launch(conf, {"stdout": output, "stderr": output})
    SparkContext._ensure_initialized(gateway=gateway)


@contextmanager
def starting_spark(log: Path | None) -> Iterator[None]:
    """Raise errors of Spark's start as SparkStartError, with the reason that Java printed to the log."""
    try:
        yield
    except (*SPARK_ERRORS, OSError) as error:
        printed = log.read_text(encoding="utf-8", errors="replace") if log is not None else ""
        gone = getattr(error, "getCondition", lambda: None)() == "JAVA_GATEWAY_EXITED"
        where = f"see {log}" if log is not None else "see Java's own output before this line"
        reason = _reason(printed) or ("its Java process ended at once" if gone else root_cause(error))
        raise SparkStartError(f"Spark does not start: {reason} ({where})") from error


def check_paths(jvm_encoding: str, paths: Mapping[str, str | None]) -> None:
    """Raise ConfigError if Java can't name one of the paths (by their keys in the configuration) in its encoding."""
    for key, path in paths.items():
        try:
            (path or "").encode(jvm_encoding)
        except UnicodeEncodeError:
            raise ConfigError(
                f"{key} {path!r} can't be a path for Spark's Java, whose locale has the encoding {jvm_encoding}; set "
                f"LC_ALL={_UTF_8_LOCALE} where Spark is started"
            ) from None
        except LookupError:  # an encoding that Python does not know
            return


def silence_query_loggers() -> None:
    """Keep PySpark from printing each failed query as JSON: its error is raised, and reported as one line."""
    for name in ("SQLQueryContextLogger", "DataFrameQueryContextLogger"):
        PySparkLogger.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def _utf_8_locale() -> Iterator[None]:
    """Start processes in a locale of UTF-8 within the block where this Python names files in UTF-8 and the locale
    does not, as with LC_ALL=C: Java names files in the locale's encoding.
    """
    mismatch = sys.getfilesystemencoding() == "utf-8" and locale.getencoding().lower().replace("-", "") != "utf8"
    before = os.environ.get("LC_ALL")
    if mismatch:
        os.environ["LC_ALL"] = _UTF_8_LOCALE
    try:
        yield
    finally:
        if mismatch:
            os.environ.pop("LC_ALL")
            if before is not None:
                os.environ["LC_ALL"] = before


def _reason(printed: str) -> str | None:
    for pattern, message in _FAILURES:
        match = re.search(pattern, printed, re.MULTILINE)
        if match:
            return message.format(**match.groupdict()).strip()
    return None
