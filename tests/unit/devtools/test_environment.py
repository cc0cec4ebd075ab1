"""The development environment that `make` installs."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from gliclass_spark.spark import java

ROOT = Path(__file__).parents[3]


def test_pyspark_and_pyspark_client_have_the_same_version() -> None:
    """Both packages install into one folder: two versions would be mixed."""
    assert version("pyspark") == version("pyspark-client")


def test_the_airflow_provider_leaves_sparks_jars_in_place() -> None:
    # By path, not by import: unit tests need no pyspark.
    folders = [Path(entry, "pyspark", "jars") for entry in sys.path]
    jars = [jar.name for folder in folders for jar in folder.glob("spark-core_*.jar")]
    assert jars == [f"spark-core_2.13-{version('pyspark')}.jar"]


def test_every_dependency_is_pinned_without_a_url() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert all(line.count("==") == 1 and "/" not in line for line in lines)


def fake_java(folder: Path, output: str, code: int = 0) -> None:
    program = folder / "bin" / "java"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho '{output}' >&2\nexit {code}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("output", "usable"),
    [
        ('openjdk version "17.0.15" 2025-04-15', True),
        ('openjdk version "21" 2023-09-19 LTS', True),
        ('openjdk version "11.0.2" 2019-01-15', False),
        ('java version "1.8.0_292"', False),
        ("something else", False),
    ],
)
def test_an_old_java_is_an_error_with_the_version_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, usable: bool
) -> None:
    fake_java(tmp_path, output)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    problem = java.problem()
    if usable:
        assert problem is None
    else:
        assert problem is not None
        assert f"Spark needs Java 17 or newer, but {tmp_path}/bin/java is" in problem
        assert "install Java 17 or 21" in problem


def test_a_broken_java_and_a_missing_java_have_different_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert f"JAVA_HOME is '{tmp_path}', but {tmp_path}/bin/java does not run" in str(java.problem())
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "Spark needs Java, and there is none on the PATH" in str(java.problem())


def test_the_check_runs_before_anything_is_installed(tmp_path: Path) -> None:
    """Run by the bare interpreter without site-packages, as the Makefile does first."""
    done = subprocess.run(
        [sys.executable, "-S", "-m", "gliclass_spark.spark.java"],
        cwd=ROOT,
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: Spark needs Java, and there is none on the PATH; install Java 17")
