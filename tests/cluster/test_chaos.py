"""Promise 4, the hard way: a night that is killed and started again ends with the tables of one that never was."""

from __future__ import annotations

from pathlib import Path

import pytest
from chaos import Chaos

from devtools.standalone_cluster import StandaloneCluster


@pytest.mark.timeout(0)  # `make chaos` takes as long as the kills that were asked for
def test_promise_4_a_run_that_is_killed_at_any_moment_loses_and_doubles_nothing(
    cluster: StandaloneCluster, tmp_path: Path, tiny_bi_encoder: str, request: pytest.FixtureRequest
) -> None:
    kills, seed = request.config.getoption("--kills"), request.config.getoption("--seed")
    outcome = Chaos(cluster, tmp_path, tiny_bi_encoder, seed).run(kills)
    print(
        f"{sum(outcome.kills.values())} kills {dict(outcome.kills)} in {outcome.nights} nights, {outcome.survived} of "
        f"them survived by the run itself; {outcome.rows} rows compared: {len(outcome.lost)} lost, "
        f"{len(outcome.doubled)} doubled, {len(outcome.different)} different"
    )
    assert (outcome.lost, outcome.doubled, outcome.different) == ([], [], [])
    assert sum(outcome.kills.values()) >= kills
