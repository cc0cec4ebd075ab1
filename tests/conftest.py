"""What the tests share: a Spark session with Delta, and a small checkpoint that loads at once.

Fixtures import torch, transformers and PySpark themselves: that takes seconds, which tests that need none of them, and
the process that hands the tests out to others, do without.
"""

from __future__ import annotations

# Before torch, which reads the setting when it is imported.
from gliclass_spark.inference.openmp import limit_spinning

limit_spinning()

# isort: split
import gc
import logging
import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from xdist.scheduler import LoadScopeScheduling

from gliclass_spark.checkpoints.cache import CACHE_VARIABLE

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kills", type=int, default=4, help="how many processes tests/cluster/test_chaos.py kills")
    parser.addoption("--histories", type=int, default=2, help="how many tests/spark/runs/test_histories.py searches")
    parser.addoption("--runs", type=int, default=1, help="number of runs that tests/airflow/test_local.py backfills")
    parser.addoption("--seed", type=int, default=0, help="decides which processes are killed when, and the histories")


class SharedProcesses(LoadScopeScheduling):
    """Tests go to the processes file by file; those that share the cluster, or Airflow's database, go to one."""

    def _split_scope(self, nodeid: str) -> str:
        path, _, _ = nodeid.partition("::")
        folder = Path(path).parts[1]
        return folder if folder in {"airflow", "cluster"} else path


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Collect the tests without the garbage collector, and let it leave out afterwards what they have imported.

    That is millions of objects of torch, transformers and MLflow, which live as long as the process. Each training
    collects garbage, and took more than a second to look at them.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with long tests first: at the end no process has nothing left while another is in a long one."""
    with_long = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in with_long)


def pytest_unconfigure() -> None:
    gc.unfreeze()  # what is frozen is not destroyed at the end, and extension modules report that as leaks


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist, where there are several processes
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SharedProcesses:
    return SharedProcesses(config, log)


@pytest.fixture(scope="session", autouse=True)
def model_cache(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The cache of models, for all tests of a process, and for the processes that they start."""
    folder = str(tmp_path_factory.mktemp("model_cache"))
    os.environ[CACHE_VARIABLE] = folder
    return folder


@pytest.fixture(scope="session")
def quick_java(request: pytest.FixtureRequest) -> None:
    """For the JVMs of this process, and for those of the processes that it starts."""
    from quick_java import VARIABLE, java_options

    assert request.config.cache is not None
    # The long tests start most of the JVMs.
    many = any(item.get_closest_marker("long") for item in request.session.items)
    os.environ[VARIABLE] = java_options(request.config.cache.mkdir("spark"), many=many)


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory, model_cache: str, quick_java: None) -> Iterator[SparkSession]:
    """One session for all tests of a process."""
    from quick_spark import QUICK_SPARK, cache_java_names

    from gliclass_spark.spark.session import spark_session

    folder = tmp_path_factory.mktemp("spark")
    conf = folder / "test.yaml"
    settings = {
        f"spark.executorEnv.{CACHE_VARIABLE}": model_cache,
        "spark.master": "local[2]",
        "spark.python.factory.idleWorkerMaxPoolSize": 2,
        "spark.sql.warehouse.dir": str(folder / "warehouse"),
        **QUICK_SPARK,
    }
    conf.write_text(yaml.safe_dump(settings))
    # It logs each connection that it closes, also when the process ends, where pytest has closed the stream.
    logging.getLogger("py4j").setLevel(logging.WARNING)
    session = spark_session(conf, app_name="tests")
    cache_java_names()
    yield session
    session.stop()


@pytest.fixture(scope="session")
def registry_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow's database with its tables, which take seconds to create: a template to copy."""
    from gliclass_spark.checkpoints.registry import Registry

    folder = tmp_path_factory.mktemp("registry_database")
    with Registry(f"sqlite:///{folder}/mlflow.db").run("none", "creates the tables", {}):
        pass
    return folder / "mlflow.db"


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a GLiClass with random weights: its scores mean nothing, but differ from text to text."""
    from tiny_models import write_uni_encoder

    return write_uni_encoder(tmp_path_factory.mktemp("tiny_model"), seed=0)


@pytest.fixture(scope="session")
def other_tiny_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Another one, with other weights."""
    from tiny_models import write_uni_encoder

    return write_uni_encoder(tmp_path_factory.mktemp("tiny_model"), seed=1)


@pytest.fixture(scope="session")
def tiny_label_cached_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a model that reads each label once, with random weights; its texts read the labels."""
    from tiny_models import write_label_cached

    return write_label_cached(tmp_path_factory.mktemp("label_cached"), text_reads_labels=True)


@pytest.fixture(scope="session")
def tiny_bi_encoder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same, but texts meet the labels only in the score."""
    from tiny_models import write_label_cached

    return write_label_cached(tmp_path_factory.mktemp("label_cached"), text_reads_labels=False)
