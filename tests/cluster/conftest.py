"""A standalone cluster for each test: a master and two workers, which the test may kill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools.standalone_cluster import StandaloneCluster


@pytest.fixture
def cluster(tmp_path: Path, quick_java: None) -> Iterator[StandaloneCluster]:
    """Spark programs run against it in processes of their own (`cluster.run`): a session is its process's only one."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    with StandaloneCluster(folder) as started:
        yield started
