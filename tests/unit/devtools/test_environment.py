"""The environment that `make` sets up."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from gliclass_spark.spark import java

ROOT = Path(__file__).parents[3]


def test_pyspark_and_its_client_are_one_version() -> None:
    """Both packages write into one folder, so two versions would be a mixture of both."""
    assert version("pyspark") == version("pyspark-client")


def test_sparks_jars_survived_the_installation_of_the_airflow_provider() -> None:
    # Found by path and not by import: unit tests need no pyspark.
    folders = [Path(entry, "pyspark", "jars") for entry in sys.path]
    jars = [jar.name for folder in folders for jar in folder.glob("spark-core_*.jar")]
    assert jars == [f"spark-core_2.13-{version('pyspark')}.jar"]


def test_every_dependency_is_pinned_and_no_address_is_named() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(line.count("==") == 1 and "/" not in line for line in lines)


def fake_java(folder: Path, answer: str, code: int = 0) -> None:
    program = folder / "bin" / "java"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho '{answer}' >&2\nexit {code}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("answer", "usable"),
    [
        ('openjdk version "17.0.15" 2025-04-15', True),
        ('openjdk version "21" 2023-09-19 LTS', True),
        ('openjdk version "11.0.2" 2019-01-15', False),
        ('java version "1.8.0_292"', False),
        ("something else", False),
    ],
)
def test_an_old_java_is_named_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, usable: bool
) -> None:
    fake_java(tmp_path, answer)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    problem = java.problem()
    if usable:
        assert problem is None
    else:
        assert problem is not None
        assert f"Spark needs Java 17 or newer, but {tmp_path}/bin/java is" in problem
        assert "install Java 17 or 21" in problem


def test_a_java_that_does_not_run_and_no_java_at_all_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert f"JAVA_HOME is '{tmp_path}', but {tmp_path}/bin/java does not run" in str(java.problem())
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "Spark needs Java, and there is none on the PATH" in str(java.problem())


def test_the_check_runs_before_anything_is_installed(tmp_path: Path) -> None:
    """By the bare interpreter, without site-packages: as the Makefile calls it first."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "gliclass_spark.spark.java"],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: Spark needs Java, and there is none on the PATH; install Java 17")
