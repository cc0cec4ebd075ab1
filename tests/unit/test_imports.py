"""Who may import whom: the table of the design, and modules that stay small and have a name of their own."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import gliclass_spark

PACKAGE = Path(gliclass_spark.__file__).parent
ROOT = PACKAGE.parent
HEAVY = {"torch", "transformers", "pyspark", "pandas"}
MAX_LINES = 400
# What a part may import of the package, itself, `errors` and `strict_yaml` aside.
MAY_IMPORT = {
    "errors": set(),
    "strict_yaml": set(),
    "labels": set(),
    "rules": {"labels"},
    "config": {"labels", "rules"},
    "model": {"labels"},
    "inference": {"labels", "model"},
    "training": {"labels", "model", "inference"},
    "registry": {"labels", "model"},
    "spark": {"labels", "rules", "config", "model", "inference"},
}
# What importing a part may load of the packages that weigh hundreds of megabytes.
MAY_LOAD = {
    "gliclass_spark": set(),
    "gliclass_spark.errors": set(),
    "gliclass_spark.labels": set(),
    "gliclass_spark.rules": set(),
    "gliclass_spark.config": set(),
    "gliclass_spark.model": {"torch", "transformers"},
    "gliclass_spark.inference": {"torch", "transformers"},
    "gliclass_spark.training": {"torch", "transformers", "pandas"},
}


def modules(part: Path) -> list[Path]:
    """The files of a module or package."""
    return sorted(part.rglob("*.py")) if part.is_dir() else [part.with_suffix(".py")]


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def parts() -> Iterator[str]:
    """The package's direct children: what the design's table speaks of."""
    for path in PACKAGE.iterdir():
        if (path.is_dir() and (path / "__init__.py").exists()) or (path.suffix == ".py" and path.stem != "__init__"):
            yield path.stem


def imported(path: Path) -> set[str]:
    """Every module that a file names in an import, wherever the import stands, but for type checkers only."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    ignored = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for statement in block.body
        for node in ast.walk(statement)
    }
    found = set()
    for node in ast.walk(tree):
        if node in ignored:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import; write it out"
            found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return found


@cache
def loaded_by(name: str) -> frozenset[str]:
    """sys.modules of a fresh process that imported nothing but every module of this package."""
    path = PACKAGE.parent / Path(*name.split("."))
    files = modules(path) if name != "gliclass_spark" else [PACKAGE / "__init__.py"]
    names = [dotted(file) for file in files]
    program = f"import importlib, json, sys\nfor n in {names!r}: importlib.import_module(n)\nprint(json.dumps(sorted(sys.modules)))"
    finished = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr
    return frozenset(json.loads(finished.stdout.splitlines()[-1]))


@pytest.mark.parametrize("name", MAY_LOAD)
def test_a_package_imported_alone_loads_no_heavy_package_but_its_own(name: str) -> None:
    assert {top for top in HEAVY if top in loaded_by(name)} <= MAY_LOAD[name]


@pytest.mark.parametrize("name", [name for name in MAY_LOAD if name != "gliclass_spark"])
def test_a_package_imported_alone_loads_no_part_that_it_may_not_import(name: str) -> None:
    part = name.removeprefix("gliclass_spark.")
    found = {module.split(".")[1] for module in loaded_by(name) if module.startswith("gliclass_spark.")}
    assert found <= MAY_IMPORT[part] | {part, "errors", "strict_yaml"}


@pytest.mark.parametrize("part", sorted(set(parts()) & set(MAY_IMPORT)))
def test_a_part_names_only_parts_that_it_may_import_even_inside_functions(part: str) -> None:
    for path in modules(PACKAGE / part):
        named = {name.split(".")[1] for name in imported(path) if name.startswith("gliclass_spark.")} & set(parts())
        assert named <= MAY_IMPORT[part] | {part, "errors", "strict_yaml"}, path


def test_only_the_spark_package_names_pyspark() -> None:
    naming = {
        dotted(path)
        for path in modules(PACKAGE)
        if any(name.split(".")[0] in {"pyspark", "delta", "py4j"} for name in imported(path))
    }
    assert {name for name in naming if not name.startswith("gliclass_spark.spark.")} == set()


def test_dags_name_neither_pyspark_nor_torch_nor_transformers() -> None:
    for path in (ROOT / "dags").rglob("*.py"):
        assert {name.split(".")[0] for name in imported(path)}.isdisjoint(HEAVY), path


def test_no_module_is_longer_than_400_lines() -> None:
    lines = {dotted(path): len(path.read_text(encoding="utf-8").splitlines()) for path in modules(PACKAGE)}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}


def test_every_module_has_a_name_of_its_own() -> None:
    assert {path.stem for path in modules(PACKAGE)}.isdisjoint({"utils", "util", "helpers", "helper", "common", "misc"})
