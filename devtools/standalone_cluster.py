"""Local Spark cluster of real processes, a master and workers, for `make stack` and for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil
import pyspark

from gliclass_spark.airflow.operators.process_group import ProcessGroup

SPARK_HOME = Path(pyspark.__file__).parent
START_TIMEOUT_S = 120


class StandaloneCluster:
    """A cluster that runs in a `with` block; leaving it kills all of its processes.

    master_url: for `SparkSession.builder.master`. workers: the workers' processes, oldest first.
    Their logs are `*.log` in `folder`; the executors' are below `folder/work`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        workers: int = 2,
        cores: int = 2,
        worker_conf: Mapping[str, str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.workers: list[ProcessGroup] = []
        self._worker_count = workers
        self._cores = cores
        self._worker_conf = dict(worker_conf or {})
        self._processes: list[ProcessGroup] = []
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_"))}
        self.env = {
            **inherited,
            "SPARK_HOME": str(SPARK_HOME),
            # Not the user's. It does not exist: an archive of Java's classes serves no JVM with a folder on its path.
            "SPARK_CONF_DIR": str(folder / "conf"),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_DAEMON_JAVA_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
            "PYSPARK_PYTHON": sys.executable,
            **(env or {}),
        }

    def __enter__(self) -> StandaloneCluster:
        try:
            master = self._start("master", "org.apache.spark.deploy.master.Master", "--port", "0")
            self.master_url = self._wait_for_log(master, "Starting Spark master at ").split()[0]
            for worker in [self._start_worker() for _ in range(self._worker_count)]:
                self._wait_until_registered(worker)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start_worker(self) -> ProcessGroup:
        """Start one more worker, and return it when it is registered with the master."""
        worker = self._start_worker()
        self._wait_until_registered(worker)
        return worker

    def kill(self, process: ProcessGroup) -> None:
        """Kill a worker or the master, with its executors and their Python workers."""
        process.kill()

    def java_pids(self, name: str) -> list[int]:
        """Return the cluster's Java processes of a class: "Master", "Worker", "CoarseGrainedExecutorBackend"."""
        pids = []
        for pid in (pid for process in self._processes for pid in process.pids()):
            try:
                command = psutil.Process(pid).cmdline()
            except psutil.Error:
                continue
            if any(argument.rsplit(".", 1)[-1] == name for argument in command):
                pids.append(pid)
        return pids

    def run(self, program: str, *arguments: str, timeout_s: float = 500) -> subprocess.CompletedProcess[str]:
        """Run a Python program as a driver; `sys.argv[1]` is the master's URL, the arguments follow."""
        command = [sys.executable, "-c", program, self.master_url, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=self.env, timeout=timeout_s)  # noqa: S603

    def stop(self) -> None:
        """Kill all processes of the cluster, executors included."""
        for process in self._processes:
            process.kill()

    def _start_worker(self) -> ProcessGroup:
        name = f"worker-{len(self.workers)}"
        conf = self.folder / f"{name}.conf"
        conf.write_text("".join(f"{key} {value}\n" for key, value in self._worker_conf.items()))
        options = ["-c", str(self._cores), "-m", "2g", "-d", str(self.folder / "work" / name)]
        main_class = "org.apache.spark.deploy.worker.Worker"
        worker = self._start(name, main_class, "--properties-file", str(conf), *options, self.master_url)
        self.workers.append(worker)
        return worker

    def _start(self, name: str, main_class: str, *options: str) -> ProcessGroup:
        spark_class = str(SPARK_HOME / "bin" / "spark-class")
        command = [spark_class, main_class, "--host", "127.0.0.1", "--webui-port", "0", *options]
        log = self.folder / f"{name}.log"
        log.write_bytes(b"")  # a cluster that is started again reads its own lines alone
        process = ProcessGroup(name, command, env=self.env, log=log, stop=signal.SIGKILL)
        self._processes.append(process)
        return process

    def _wait_until_registered(self, worker: ProcessGroup) -> None:
        self._wait_for_log(worker, "Successfully registered with master")

    def _wait_for_log(self, process: ProcessGroup, marker: str) -> str:
        """Wait until the process logs the marker, and return the log after it."""
        log = self.folder / f"{process.name}.log"

        def text_after() -> str:
            return log.read_text(errors="replace").partition(marker)[2]

        process.wait_until_ready(lambda: None if "\n" in text_after() else f"no {marker!r} in the log", START_TIMEOUT_S)
        return text_after()
