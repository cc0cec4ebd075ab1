"""One standalone cluster for all tests of this folder: a master and two workers, each with a GPU for Spark alone."""

from __future__ import annotations

from collections.abc import Iterator

import psutil
import pytest

from devtools.standalone_cluster import StandaloneCluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory, quick_java: None) -> Iterator[StandaloneCluster]:
    """Start the cluster; check at the end that it leaves no process.

    Programs run on it in processes of their own (`cluster.run`): a process has one session. A test may kill a worker
    if it starts another. The GPUs are addresses that a discovery script prints: to Spark, a GPU is no more than that.
    """
    folder = tmp_path_factory.mktemp("cluster")
    script = folder / "gpus.sh"
    script.write_text("""#!/bin/sh\necho '{"name": "gpu", "addresses": ["0"]}'\n""")
    script.chmod(0o755)
    gpus = {"spark.worker.resource.gpu.amount": "1", "spark.worker.resource.gpu.discoveryScript": str(script)}
    with StandaloneCluster(folder, worker_conf=gpus, env={"CUDA_VISIBLE_DEVICES": ""}) as cluster:
        yield cluster
        pids = cluster.java_pids("Master") + cluster.java_pids("Worker")
        assert len(pids) == 3
    assert not any(psutil.pid_exists(pid) for pid in pids)
