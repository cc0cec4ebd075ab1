"""Who may import whom: the table of the design, and modules that stay small and have a name of their own."""

from __future__ import annotations

import ast
import graphlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import gliclass_spark

PACKAGE = Path(gliclass_spark.__file__).parent
ROOT = PACKAGE.parent
HEAVY = {"torch", "transformers", "pyspark", "pandas", "matplotlib", "jinja2"}
MAX_LINES = 400
# What each package may import of the others, as docs/architecture.md states it; those of EVERYWHERE are free to all.
# A package that is missing here fails the test.
EVERYWHERE = {"errors", "yaml_loader", "atomic_files", "redaction"}
MAY_IMPORT = {
    "errors": set(),
    "yaml_loader": set(),
    "atomic_files": set(),
    "redaction": set(),
    "labels": set(),
    "config": {"labels"},
    "checkpoints": {"config"},
    "runs": {"config"},
    "feedback": {"labels"},
    "model": {"checkpoints", "labels"},
    "inference": {"model", "checkpoints", "labels"},
    "spark": {"inference", "feedback", "runs", "checkpoints", "config", "labels"},
    "training": {"inference", "model", "runs", "checkpoints", "config", "labels"},
    "retraining": {"training", "inference", "model", "feedback", "runs", "checkpoints", "config", "labels"},
    "mlflow": {"inference", "model", "checkpoints", "labels"},
    "report": {"runs", "config", "labels"},
    "airflow": {"report", "runs", "checkpoints", "config"},
    "interactive": {"spark", "report", "runs", "config"},
    "demo": set(),
    "cli": {
        *("spark", "retraining", "training", "report", "demo", "inference", "model", "feedback", "runs"),
        *("checkpoints", "config", "labels"),
    },
}
# What importing a package may load of the libraries that take seconds to import.
MAY_LOAD: dict[str, set[str]] = {
    **{
        part: set()
        for part in (
            *("gliclass_spark", "errors", "yaml_loader", "atomic_files", "redaction"),
            *("labels", "config", "feedback", "runs"),
        )
    },
    "checkpoints": set(),
    "report": {"matplotlib", "jinja2"},
    # transformers loads jinja2 for the chat templates of its tokenizers.
    "model": {"torch", "transformers", "jinja2"},
    "inference": {"torch", "transformers", "jinja2"},
    # scikit-learn, which scores evaluations, loads pandas where it is installed.
    "training": {"torch", "transformers", "pandas", "jinja2"},
    "retraining": {"torch", "transformers", "pandas", "jinja2"},
}
# Packages that are imported in one process, one behind the other. Each may import all that stand before it, so what
# it adds to sys.modules is what it would load alone. (Loading torch once for each would take a minute.)
CHAINS = [
    [
        "gliclass_spark",
        "redaction",
        "errors",
        "yaml_loader",
        "atomic_files",
        "labels",
        "config",
        "feedback",
        "checkpoints",
        "runs",
        "report",
    ],
    ["model", "inference", "training", "retraining"],
]


def with_imports(part: str) -> set[str]:
    """The packages that importing a part may load: those that it may import, and all that these may."""
    return {part}.union(*(with_imports(other) for other in MAY_IMPORT[part]))


def modules(part: Path) -> list[Path]:
    """The files of a module or package."""
    return sorted(part.rglob("*.py")) if part.is_dir() else [part.with_suffix(".py")]


def dotted(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def parts() -> Iterator[str]:
    """The package's direct children: modules, and folders that hold Python files."""
    for path in PACKAGE.iterdir():
        if (path.is_dir() and any(path.rglob("*.py"))) or (path.suffix == ".py" and path.stem != "__init__"):
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
    names = set()
    for node in ast.walk(tree):
        if node in ignored:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import; write it out"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
    return names


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
    return {part: set(names_loaded) for part, names_loaded in json.loads(finished.stdout.splitlines()[-1]).items()}


IMPORT_ONE_BY_ONE = """
import importlib, json, sys
loaded = {}
for part, names in json.loads(sys.argv[1]).items():
    for name in names:
        importlib.import_module(name)
    loaded[part] = sorted(sys.modules)
print(json.dumps(loaded))
"""
IN_CHAINS = [(part, number) for number, chain in enumerate(CHAINS) for part in chain]


@pytest.mark.parametrize(("part", "chain"), IN_CHAINS)
def test_importing_a_part_loads_no_heavy_package_but_its_own(part: str, chain: int) -> None:
    assert HEAVY & loaded(chain)[part] <= MAY_LOAD[part]


@pytest.mark.parametrize(("part", "chain"), [(part, chain) for part, chain in IN_CHAINS if part != "gliclass_spark"])
def test_importing_a_part_loads_no_part_that_it_may_not_import(part: str, chain: int) -> None:
    before = set(CHAINS[chain][: CHAINS[chain].index(part)])
    loaded_parts = {name.split(".")[1] for name in loaded(chain)[part] if name.startswith("gliclass_spark.")}
    assert loaded_parts <= with_imports(part) | before | EVERYWHERE


def test_every_package_is_in_the_table_and_has_an_init_file() -> None:
    assert set(parts()) == set(MAY_IMPORT)
    folders = {path.parent for path in modules(PACKAGE)}
    assert [folder for folder in sorted(folders) if not (folder / "__init__.py").is_file()] == []


def test_the_table_has_no_cycle() -> None:
    order = list(graphlib.TopologicalSorter(MAY_IMPORT).static_order())
    assert set(order) == set(MAY_IMPORT)


def test_only_a_registered_model_loads_the_registry_and_only_a_request_loads_mlflow() -> None:
    assert [name for name in loaded(1)["training"] if name.startswith("gliclass_spark.checkpoints.registry")] == []
    assert "mlflow" not in loaded(0)["checkpoints"]


def test_importing_the_package_loads_none_of_its_parts() -> None:
    assert [name for name in loaded(0)["gliclass_spark"] if name.startswith("gliclass_spark.")] == []


@pytest.mark.parametrize("part", sorted(parts()))
def test_a_part_names_only_parts_that_it_may_import_even_inside_functions(part: str) -> None:
    for path in modules(PACKAGE / part):
        named = {name.split(".")[1] for name in imported(path) if name.startswith("gliclass_spark.")} & set(parts())
        assert named <= MAY_IMPORT[part] | EVERYWHERE | {part}, path


def test_only_the_spark_package_names_pyspark() -> None:
    naming = {
        dotted(path)
        for path in modules(PACKAGE)
        if any(name.split(".")[0] in {"pyspark", "delta", "py4j"} for name in imported(path))
    }
    assert {name for name in naming if not name.startswith("gliclass_spark.spark.")} == set()


def test_a_driver_loads_neither_torch_nor_transformers() -> None:
    names = ("spark.jobs", "spark.udf", "spark.jobs.plan", "cli.app")
    program = f"import sys, {', '.join(f'gliclass_spark.{name}' for name in names)}; print(*sys.modules)"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    assert {"torch", "transformers"}.isdisjoint(finished.stdout.split())


def test_retraining_steps_load_no_model_and_no_trainer_before_they_need_one() -> None:
    program = """
import sys
import gliclass_spark.retraining.champion_check, gliclass_spark.retraining.promotion, gliclass_spark.retraining.steps
print(*sys.modules)
import gliclass_spark.retraining.gate.judge, gliclass_spark.training.data.feedback_batches
import gliclass_spark.training.evaluation.calibrate
print(*sys.modules)
"""
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    without_model, without_trainer = (set(line.split()) for line in finished.stdout.splitlines())
    assert {"torch", "transformers"}.isdisjoint(without_model)
    assert {"peft", "accelerate", "sklearn"}.isdisjoint(without_trainer)


def test_dags_name_neither_pyspark_nor_torch_nor_transformers() -> None:
    for path in [*(ROOT / "dags").rglob("*.py"), *modules(PACKAGE / "airflow")]:
        assert {name.split(".")[0] for name in imported(path)}.isdisjoint(HEAVY), path


def test_no_module_is_longer_than_400_lines() -> None:
    lines = {dotted(path): len(path.read_text(encoding="utf-8").splitlines()) for path in modules(PACKAGE)}
    assert {name: count for name, count in lines.items() if count > MAX_LINES} == {}


def test_no_module_is_called_utils_or_helpers() -> None:
    assert {path.stem for path in modules(PACKAGE)}.isdisjoint({"utils", "util", "helpers", "helper", "common", "misc"})


def test_no_two_modules_share_a_name() -> None:
    names = Counter(path.stem for path in modules(PACKAGE) if path.stem != "__init__")
    assert [name for name, count in names.items() if count > 1] == []


def test_no_two_public_classes_share_a_name() -> None:
    trees = (ast.parse(path.read_text(encoding="utf-8")) for path in modules(PACKAGE))
    classes = Counter(node.name for tree in trees for node in tree.body if isinstance(node, ast.ClassDef))
    assert [name for name, count in classes.items() if count > 1 and not name.startswith("_")] == []


def test_every_test_file_has_a_name_of_its_own() -> None:
    """Pytest imports them by it."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(set(names)) == sorted(names)
