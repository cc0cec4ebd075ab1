"""Chaos test: a run that is killed and started again ends with the tables of an undisturbed run."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos import Chaos

from devtools.standalone_cluster import StandaloneCluster

pytestmark = pytest.mark.long


@pytest.mark.timeout(0)  # `make chaos` sets the number of kills
def test_promise_4_a_run_killed_at_any_moment_loses_and_duplicates_no_row(
    cluster: StandaloneCluster, tmp_path: Path, tiny_bi_encoder: str, request: pytest.FixtureRequest
) -> None:
    kills, seed = request.config.getoption("--kills"), request.config.getoption("--seed")
    outcome = Chaos(cluster, tmp_path, tiny_bi_encoder, seed).run(kills)
    print(
        f"{sum(outcome.kills.values())} kills {dict(outcome.kills)} in {outcome.runs} runs, "
        f"{outcome.survived} survived without a restart; {outcome.rows} rows compared: {len(outcome.lost)} lost, "
        f"{len(outcome.duplicated)} duplicated, {len(outcome.different)} different"
    )
    assert (outcome.lost, outcome.duplicated, outcome.different) == ([], [], [])
    assert sum(outcome.kills.values()) >= kills
