"""Who may import whom: the table of the design, and modules that stay small and have a name of their own."""

from __future__ import annotations

import ast
import json
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
    "conditions": set(),
    "labels": set(),
    "thresholds": {"labels"},
    "exploration": {"labels", "thresholds"},
    "feedback": set(),
    "rules": {"labels", "conditions"},
    "addresses": set(),
    "schedule": {"addresses"},
    "config": {"labels", "rules", "conditions", "addresses", "schedule"},
    # "registry": for an address of the registry, and then only (see the test below).
    "model": {"labels", "addresses", "registry"},
    "inference": {"labels", "thresholds", "addresses", "model"},
    "retrain_config": {"labels", "rules", "conditions", "config", "addresses", "schedule"},
    "training": {
        *("labels", "rules", "conditions", "config", "addresses", "schedule", "retrain_config"),
        *("thresholds", "model", "inference", "reader", "report", "manifest"),
    },
    "manifest": set(),
    "report": {"labels", "manifest"},
    "reader": set(),
    "history": {"labels", "rules", "conditions", "config", "addresses", "schedule", "manifest", "report", "reader"},
    "registry": {"labels", "model", "addresses"},
    "spark_conf": set(),
    "spark_jars": set(),
    "spark": {
        *(
            "labels",
            "rules",
            "conditions",
            "config",
            "addresses",
            "model",
            "inference",
            "manifest",
            "report",
            "spark_conf",
            "spark_jars",
        ),
        *("thresholds", "exploration", "feedback"),
    },
    # `make stack`: it starts everything, and imports no pyspark itself.
    "stack": {
        *("airflow", "addresses", "config", "schedule", "retrain_config", "retrain", "manifest", "history", "reader"),
        *("spark_conf", "spark_jars", "demo", "spark"),
    },
    # What Airflow's own processes run: they parse the DAGs, and read the tables without Spark.
    "airflow": {
        *("addresses", "config", "schedule", "retrain_config", "retrain"),
        *("manifest", "history", "reader", "spark_conf", "spark_jars", "demo"),
    },
}
# What importing a part may load of the packages that weigh hundreds of megabytes.
MAY_LOAD = {
    "gliclass_spark": set(),
    "errors": set(),
    "strict_yaml": set(),
    "conditions": set(),
    "labels": set(),
    "thresholds": set(),
    "exploration": set(),
    "feedback": set(),
    "rules": set(),
    "addresses": set(),
    "schedule": set(),
    "config": set(),
    "retrain_config": set(),
    "manifest": set(),
    "report": set(),
    "reader": set(),
    "history": set(),
    "registry": set(),
    "model": {"torch", "transformers"},
    "inference": {"torch", "transformers"},
    # pandas: scikit-learn, which scores evaluations, loads it where it is installed.
    "training": {"torch", "transformers", "pandas"},
}
# Parts that are imported in one process, one behind the other. Each may import all that stand before it, so what
# it adds to sys.modules is what it would load alone. (Loading torch once for each would take a minute.)
CHAINS = [
    [
        *(
            "gliclass_spark",
            "errors",
            "strict_yaml",
            "conditions",
            "labels",
            "thresholds",
            "exploration",
            "feedback",
            "rules",
            "addresses",
            "schedule",
            "config",
            "retrain_config",
        ),
        *("manifest", "report", "reader", "history", "registry"),
    ],
    ["model", "inference", "training"],
]


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
def loaded(chain: int) -> dict[str, set[str]]:
    """For each part of a chain, the names in sys.modules once all of its modules are imported in a fresh process."""
    names = {
        part: ["gliclass_spark"] if part == "gliclass_spark" else [dotted(path) for path in modules(PACKAGE / part)]
        for part in CHAINS[chain]
    }
    finished = subprocess.run(
        [sys.executable, "-c", IMPORT_ONE_BY_ONE, json.dumps(names)], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return {part: set(found) for part, found in json.loads(finished.stdout.splitlines()[-1]).items()}


IMPORT_ONE_BY_ONE = """
import importlib, json, sys
found = {}
for part, names in json.loads(sys.argv[1]).items():
    for name in names:
        importlib.import_module(name)
    found[part] = sorted(sys.modules)
print(json.dumps(found))
"""
IN_CHAINS = [(part, number) for number, chain in enumerate(CHAINS) for part in chain]


@pytest.mark.parametrize(("part", "chain"), IN_CHAINS)
def test_importing_a_part_loads_no_heavy_package_but_its_own(part: str, chain: int) -> None:
    assert HEAVY & loaded(chain)[part] <= MAY_LOAD[part]


@pytest.mark.parametrize(("part", "chain"), [(part, chain) for part, chain in IN_CHAINS if part != "gliclass_spark"])
def test_importing_a_part_loads_no_part_that_it_may_not_import(part: str, chain: int) -> None:
    before = set(CHAINS[chain][: CHAINS[chain].index(part)])
    found = {name.split(".")[1] for name in loaded(chain)[part] if name.startswith("gliclass_spark.")}
    assert found <= MAY_IMPORT[part] | before | {part, "errors", "strict_yaml"}


def test_only_a_registered_address_loads_the_registry_and_only_a_question_loads_mlflow() -> None:
    assert [name for name in loaded(1)["training"] if name.startswith("gliclass_spark.registry")] == []
    assert "mlflow" not in loaded(0)["registry"]


def test_importing_the_package_loads_none_of_its_parts() -> None:
    assert [name for name in loaded(0)["gliclass_spark"] if name.startswith("gliclass_spark.")] == []


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


@pytest.mark.parametrize("module", ["spark.steps", "spark.udf", "spark.plan", "cli"])
def test_a_driver_loads_neither_torch_nor_transformers(module: str) -> None:
    program = f"import sys, gliclass_spark.{module}; print(*sys.modules)"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert {"torch", "transformers"}.isdisjoint(finished.stdout.split())


def test_dags_name_neither_pyspark_nor_torch_nor_transformers() -> None:
    for path in [*(ROOT / "dags").rglob("*.py"), *modules(PACKAGE / "airflow")]:
        assert {name.split(".")[0] for name in imported(path)}.isdisjoint(HEAVY), path


def test_no_module_is_longer_than_400_lines() -> None:
    lines = {dotted(path): len(path.read_text(encoding="utf-8").splitlines()) for path in modules(PACKAGE)}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}


def test_every_module_has_a_name_of_its_own() -> None:
    assert {path.stem for path in modules(PACKAGE)}.isdisjoint({"utils", "util", "helpers", "helper", "common", "misc"})


def test_every_test_file_has_a_name_of_its_own() -> None:
    """Pytest imports them by it."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)
