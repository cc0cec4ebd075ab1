"""Chaos test: a run that is killed and started again ends with the tables of an undisturbed run."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos import Chaos
from pyspark.sql import SparkSession

from devtools.standalone_cluster import StandaloneCluster

pytestmark = pytest.mark.long


@pytest.mark.timeout(0)  # `make chaos` sets the number of kills
def test_promise_4_a_run_killed_at_any_moment_loses_and_duplicates_no_row(
    cluster: StandaloneCluster,
    spark: SparkSession,
    tmp_path: Path,
    tiny_bi_encoder: str,
    request: pytest.FixtureRequest,
) -> None:
    """Nor leaves one stale, though the source changes between the attempts."""
    kills, seed = request.config.getoption("--kills"), request.config.getoption("--seed")
    outcome = Chaos(cluster, spark, tmp_path, tiny_bi_encoder, seed).run(kills)
    print("", *outcome.lines(), sep="\n")
    assert (outcome.lost, outcome.duplicated, outcome.stale) == ([], [], [])
    assert outcome.kills.total() >= kills
