"""Random histories of a source, of settings and of runs: the next run leaves the tables of a pipeline that ran once."""

from __future__ import annotations

import shutil
import sys
import traceback
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest
from expected_tables import assert_as_expected
from history_runs import During, Run, Set
from history_source import AddColumn, ChangeColumn, Copy, Delete, Insert, PutBack, Update
from history_world import Operation, World
from hypothesis import HealthCheck, Phase, given, seed, settings
from pyspark.sql import SparkSession
from random_histories import histories

pytestmark = pytest.mark.long


def follow(world: World, history: tuple[Operation, ...]) -> None:
    """Apply the operations, and compare the tables after each whole run, and after one more."""
    for operation in (*history, Run()):
        print(operation, flush=True)
        world.last = None
        operation.apply(world)
        if world.last is not None:
            assert_as_expected(world, world.last)


@pytest.fixture
def worlds(
    spark: SparkSession, first_lake: Path, tiny_bi_encoder: str, other_tiny_model: str, tmp_path: Path
) -> Iterator[Callable[[], World]]:
    """A function that returns a new world, after its first run."""
    numbers = count()

    def world() -> World:
        folder = tmp_path / str(next(numbers))
        for name in ("documents", "lake"):
            shutil.copytree(first_lake / name, folder / name)
        return World(spark, folder, (tiny_bi_encoder, other_tiny_model))

    spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    yield world
    spark.conf.unset("spark.databricks.delta.retentionDurationCheck.enabled")


# Histories that once led to wrong tables.
DIRECTED: dict[str, tuple[Operation, ...]] = {
    "a column that only a killed run had seen": (
        *(AddColumn("INT", filled=True), During("filter", (), "killed"), ChangeColumn("drop", 1)),
    ),
    "values that only a killed run had seen": (*(Copy(), Update(1, None), During("filter", (), "killed"), PutBack(0)),),
    "documents that only a killed run had seen": (
        *(Copy(), Insert(1, 0), Update(1, 0), Delete(2), During("tag", (), "killed"), PutBack(0)),
    ),
    "a route that comes back after a column went": (
        *(Set("routes", 1), ChangeColumn("drop", 0), Run(), Set("routes", 1)),
    ),
}


@pytest.mark.parametrize("name", DIRECTED)
def test_promise_4_histories_that_once_led_to_wrong_tables(worlds: Callable[[], World], name: str) -> None:
    follow(worlds(), DIRECTED[name])


@pytest.mark.timeout(0)
def test_promise_4_whatever_happened_the_next_run_leaves_the_tables_of_a_fresh_pipeline(
    worlds: Callable[[], World], request: pytest.FixtureRequest
) -> None:
    @seed(request.config.getoption("--seed"))
    @settings(
        max_examples=request.config.getoption("--histories"),
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(histories)
    def check(history: tuple[Operation, ...]) -> None:
        print(f"\n{history}", flush=True)
        try:
            follow(worlds(), history)
        except Exception:  # a long search goes on
            traceback.print_exc(file=sys.stdout)
            failures.append(history)

    failures: list[tuple[Operation, ...]] = []
    check()
    assert failures == []
