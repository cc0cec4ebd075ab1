"""Standalone cluster for each test: a master and two workers, which the test may kill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from devtools.standalone_cluster import StandaloneCluster


@pytest.fixture
def cluster(tmp_path: Path, quick_java: None) -> Iterator[StandaloneCluster]:
    """Start a cluster. Programs run on it in their own processes (`cluster.run`): a process has only one session."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    with StandaloneCluster(folder) as cluster:
        yield cluster
