"""The start of Spark's Java process: what keeps it from starting is named on one line, with the fix."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pyspark
import pytest
from pyspark import SparkContext
from pyspark.errors import PySparkRuntimeError

from gliclass_spark.errors import ConfigError, SparkStartError
from gliclass_spark.spark.launch import check_paths, check_spark_home, launch_java, starting_spark

VERSION = ".".join(pyspark.__version__.split(".")[:2])


def spark_folder(folder: Path, version: str) -> str:
    for name in ("bin/spark-submit", f"jars/spark-core_2.13-{version}.jar"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    return str(folder)


def test_spark_home_without_a_spark_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_HOME", str(tmp_path / "spark-3.5.1"))
    message = f"SPARK_HOME is .*spark-3.5.1', where there is no bin/spark-submit; unset it to use the Spark {VERSION}"
    with pytest.raises(SparkStartError, match=message):
        check_spark_home()


def test_spark_home_of_another_version_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_HOME", spark_folder(tmp_path, "3.5.1"))
    with pytest.raises(SparkStartError, match=f"a Spark 3.5, but PySpark is {re.escape(VERSION)}; unset it"):
        check_spark_home()


def test_spark_home_of_the_same_version_is_all_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARK_HOME", spark_folder(tmp_path, pyspark.__version__))
    check_spark_home()


def test_a_user_without_a_home_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", "-Duser.home=?")
    monkeypatch.setattr(SparkContext, "_gateway", None)  # another test of this process may have started Java
    log = tmp_path / "spark.log"
    with pytest.raises(SparkStartError, match="Java knows no home folder of this user") as raised:
        launch_java({"spark.jars.packages": "io.delta:delta-storage:4.0.0"}, log)
    assert "set spark.jars.ivy to a folder" in str(raised.value)
    assert str(log) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("printed", "reason"),
    [
        (
            "\t::::\nunresolved dependency: io.delta#x;4.4.0: not found",
            "io.delta#x",
        ),
        ("Invalid initial heap size: -Xms2x\n", "Java prints: Invalid initial heap size: -Xms2x"),
        ('Exception in thread "main" java.lang.Error: no\n\tat x\n', "Java prints: java.lang.Error: no"),
        ("", "its Java process ended at once"),
    ],
)
def test_the_reason_is_taken_from_the_log(printed: str, reason: str, tmp_path: Path) -> None:
    log = tmp_path / "spark.log"
    log.write_text(printed)
    with pytest.raises(SparkStartError, match="Spark does not start: ") as raised, starting_spark(log):
        raise PySparkRuntimeError(errorClass="JAVA_GATEWAY_EXITED", messageParameters={})
    assert reason in str(raised.value)


def test_a_path_that_java_can_not_name_is_refused() -> None:
    check_paths("UTF-8", {"tables": "/data/straße/lake"})
    check_paths("ANSI_X3.4-1968", {"source.path": None, "tables": "/data/lake"})
    with pytest.raises(ConfigError, match=r"tables '/data/straße/lake' can't be a path .* set LC_ALL=C.UTF-8"):
        check_paths("ANSI_X3.4-1968", {"source.path": "/data/mail", "tables": "/data/straße/lake"})


def test_java_starts_in_a_locale_of_utf_8() -> None:
    program = (
        "import os\nfrom gliclass_spark.spark import launch\nwith launch._utf_8_locale():\n"
        "    print(os.environ.get('LC_ALL'))\nprint(os.environ.get('LC_ALL'))"
    )
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    for locale_, during in (("C", "C.UTF-8"), ("C.UTF-8", "C.UTF-8")):
        environment = {**inherited, "LC_ALL": locale_}
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        assert done.stdout.split() == [during, locale_]
