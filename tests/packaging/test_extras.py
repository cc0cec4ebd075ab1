"""The wheel with one extra alone, in an environment with nothing else: what the extra is for works."""

from __future__ import annotations

import os
import shutil
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from quick_spark import submit_args
from uv_environments import ROOT, UV, new_environment, run

pytestmark = pytest.mark.long

IMPORT_ALL = """
import importlib, pkgutil, sys
for name in sys.argv[1:]:
    package = importlib.import_module(name)
    for module in pkgutil.walk_packages(package.__path__, name + "."):
        if module.name != "gliclass_spark.airflow.lineage":  # for those who have Airflow's OpenLineage provider
            importlib.import_module(module.name)
"""
# Every module of these packages is imported in an environment with that extra.
PACKAGES = {
    "": ["gliclass_spark.config", "gliclass_spark.labels", "gliclass_spark.inference", "gliclass_spark.feedback"],
    "spark": ["gliclass_spark.spark", "gliclass_spark.runs", "gliclass_spark.report.run"],
    "airflow": ["gliclass_spark.airflow", "gliclass_spark.runs", "gliclass_spark.report.run"],
    "postgres": ["asyncpg", "psycopg2"],
    "train": ["gliclass_spark.training", "gliclass_spark.retraining", "gliclass_spark.report"],
    "registry": ["gliclass_spark.checkpoints"],
}
# They come as source alone, and are installed first: see the Makefile.
SOURCES = {"pyspark", "pyspark-client"}
UDF = """
from gliclass_spark import gliclass_udf
from gliclass_spark.spark.session import spark_session

spark = spark_session()
mail = spark.createDataFrame([("Invoice 42 is attached.",)], ["text"])
[row] = mail.select(gliclass_udf(["complaint", "invoice"], output="scores")("text").alias("scores")).collect()
print(sorted(row["scores"]))
"""


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone: a build leaves files beside the package."""
    folder = tmp_path_factory.mktemp("source")
    run(["git", "clone", "--quiet", str(ROOT), str(folder)], folder)
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    constraints = ["--build-constraint", str(ROOT / "constraints.txt")]
    run([str(UV), "build", "--quiet", "--wheel", *constraints, "--out-dir", str(folder), str(source)], folder)
    [built] = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one environment after the other. At one path they share the bytecode of what all of them import."""
    return tmp_path_factory.mktemp("extras")


def required(wheel: Path, extra: str) -> set[str]:
    """Return the packages that the extra names."""
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        entries = message_from_bytes(archive.read(name)).get_all("Requires-Dist", [])
    requirements = [Requirement(entry) for entry in entries]
    return {each.name for each in requirements if each.marker and each.marker.evaluate({"extra": extra})}


def test_the_wheel_holds_the_package_and_nothing_for_developers(wheel: Path, source: Path) -> None:
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert {name.split("/")[0] for name in names} == {"gliclass_spark"}
    assert set(names) == set(run(["git", "ls-files", "gliclass_spark"], source).split())


@pytest.mark.parametrize("extra", PACKAGES)
def test_an_extra_alone_brings_all_that_it_is_for(
    extra: str, wheel: Path, folder: Path, tmp_path: Path, quick_java: None
) -> None:
    environment = folder / "environment"
    shutil.rmtree(environment, ignore_errors=True)
    python, command = new_environment(environment), str(environment / "bin" / "gliclass-spark")
    requirement = f"gliclass-spark[{extra}] @ {wheel.as_uri()}" if extra else str(wheel)
    install = [str(UV), "pip", "install", "--quiet", "--python", python, "--constraint", str(ROOT / "constraints.txt")]
    if sources := required(wheel, extra) & SOURCES:
        run([*install, "--no-deps", *sources], tmp_path)
    run([*install, requirement], tmp_path)

    bytecode = {"PYTHONPYCACHEPREFIX": str(folder / "bytecode")}
    run([python, "-c", IMPORT_ALL, *PACKAGES[extra]], tmp_path, AIRFLOW_HOME=str(tmp_path / "airflow"), **bytecode)
    classify = [command, "classify", "--labels", "spam,invoice", "Invoice 42 is attached."]
    assert "invoice" in run(classify, tmp_path, **bytecode)
    if extra == "spark":
        path = f"{environment / 'bin'}:{os.environ['PATH']}"
        shown = run([python, "-c", UDF], tmp_path, PATH=path, PYSPARK_SUBMIT_ARGS=submit_args(), **bytecode)
        assert shown.splitlines()[-1] == "['complaint', 'invoice']"
    if extra == "registry":
        registry = ["--registry", "sqlite:///mlflow.db"]
        run([command, "register", "mail", "embedded", *registry], tmp_path, **bytecode)
        assert "champion" in run([command, "models", "mail", *registry], tmp_path, **bytecode)
