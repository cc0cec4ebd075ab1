"""A Spark cluster of real processes on this machine: a master and workers, for `make stack` and for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

import psutil
import pyspark

SPARK_HOME = Path(pyspark.__file__).parent
START_S = 120


class StandaloneCluster:
    """Started by `with`, and gone behind it, whatever has become of its processes.

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
        self.workers: list[subprocess.Popen[bytes]] = []
        self._wanted = workers
        self._cores = cores
        self._worker_conf = dict(worker_conf or {})
        self._processes: list[subprocess.Popen[bytes]] = []
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("SPARK_", "PYSPARK_"))}
        self.env = {
            **inherited,
            "SPARK_HOME": str(SPARK_HOME),
            "SPARK_CONF_DIR": str(folder),  # its own, and nobody else's
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_DAEMON_JAVA_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1",
            "PYSPARK_PYTHON": sys.executable,
            **(env or {}),
        }

    def __enter__(self) -> StandaloneCluster:
        try:
            master = self._start("master", "org.apache.spark.deploy.master.Master", "--port", "0")
            said = self._wait(master, "master", "Starting Spark master at ")
            self.master_url = said.split()[0]
            starting = [self._start_worker() for _ in range(self._wanted)]
            for name, worker in starting:
                self._registered(name, worker)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start_worker(self) -> subprocess.Popen[bytes]:
        """One more worker. Returns when the master knows it."""
        name, worker = self._start_worker()
        self._registered(name, worker)
        return worker

    def kill(self, process: subprocess.Popen[bytes]) -> None:
        """End a worker or the master at once, with all that it started: its executors and their Python workers."""
        for pid in self._pids([process]):
            _kill(pid)
        process.wait()

    def java_pids(self, kind: str) -> list[int]:
        """The cluster's Java processes of a class: "Master", "Worker", "CoarseGrainedExecutorBackend"."""
        found = []
        for pid in self._pids(self._processes):
            try:
                command = psutil.Process(pid).cmdline()
            except psutil.Error:
                continue
            if any(argument.rsplit(".", 1)[-1] == kind for argument in command):
                found.append(pid)
        return found

    def run(self, program: str, *arguments: str, timeout_s: float = 500) -> subprocess.CompletedProcess[str]:
        """A Python program as a driver of its own; `sys.argv[1]` is the master's URL, the arguments follow."""
        command = [sys.executable, "-c", program, self.master_url, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=self.env, timeout=timeout_s)  # noqa: S603

    def stop(self) -> None:
        """End every process that the cluster started, executors included."""
        for pid in self._pids(self._processes):
            _kill(pid)
        for process in self._processes:
            process.wait()

    def _start_worker(self) -> tuple[str, subprocess.Popen[bytes]]:
        name = f"worker-{len(self.workers)}"
        conf = self.folder / f"{name}.conf"
        conf.write_text("".join(f"{key} {value}\n" for key, value in self._worker_conf.items()))
        options = ["-c", str(self._cores), "-m", "2g", "-d", str(self.folder / "work" / name)]
        kind = "org.apache.spark.deploy.worker.Worker"
        worker = self._start(name, kind, "--properties-file", str(conf), *options, self.master_url)
        self.workers.append(worker)
        return name, worker

    def _start(self, name: str, kind: str, *options: str) -> subprocess.Popen[bytes]:
        command = [str(SPARK_HOME / "bin" / "spark-class"), kind, "--host", "127.0.0.1", "--webui-port", "0", *options]
        with (self.folder / f"{name}.log").open("wb") as log:
            # A session of its own: whatever it starts is found by it.
            process = subprocess.Popen(  # noqa: S603 - a list, and no shell
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env, start_new_session=True
            )
        self._processes.append(process)
        return process

    def _registered(self, name: str, worker: subprocess.Popen[bytes]) -> None:
        self._wait(worker, name, "Successfully registered with master")

    def _wait(self, process: subprocess.Popen[bytes], name: str, words: str) -> str:
        """What the log says behind these words, once it does."""
        until = time.monotonic() + START_S
        while True:
            log = (self.folder / f"{name}.log").read_text(errors="replace")
            _, found, rest = log.partition(words)
            if found and "\n" in rest:
                return rest
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"{name} did not start in {START_S} s; its log:\n{log[-3000:]}")
            time.sleep(0.1)

    @staticmethod
    def _pids(processes: list[subprocess.Popen[bytes]]) -> list[int]:
        sessions = {process.pid for process in processes}
        return [pid for pid in psutil.pids() if _session(pid) in sessions]


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except (ProcessLookupError, PermissionError):
        return None


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
