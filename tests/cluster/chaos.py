"""Chaos: runs on a cluster whose processes are killed at random moments, and a comparison of their tables."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import yaml
from quick_spark import QUICK_SPARK

from devtools.standalone_cluster import StandaloneCluster

# In turn: after a Spark worker's kill the other one is still scoring; after an executor's no Python worker runs yet.
VICTIMS = ("driver", "executor", "spark worker", "python worker")
ROWS = 3000
_RUN_S = 600
# The next kill comes at a random moment within this time; it is shorter than a run, so most runs see several.
_NEXT_KILL_S = 40

SESSION = """
import json, sys
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.spark.session import spark_session
from gliclass_spark.spark.jobs import STEPS, PipelineRun
spark = spark_session(sys.argv[1])
"""
# Write the documents of run n: some are added, some changed, some deleted.
# Few imports: that of torch takes longer than the writing.
WRITE = """
import sys
from delta.tables import DeltaTable
from pyspark.sql import functions as F
from gliclass_spark.spark.session import spark_session
spark = spark_session(sys.argv[1])
path, number, rows = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
first = 0 if number == 0 else rows + 100 * (number - 1)
new = spark.range(first, first + (rows if number == 0 else 100), 1, 2).select(
    F.col("id").cast("string").alias("id"),
    F.when(F.col("id") % 97 == 0, None).when(F.col("id") % 89 == 0, "  ").when(F.col("id") % 7 == 0, "short")
    .otherwise(F.expr("concat('document ', id, ' of a lake', repeat(' of data', CAST(id % 40 AS INT)))")).alias("body"),
)
new.write.format("delta").mode("append").option("delta.enableChangeDataFeed", "true").save(path)
if number:
    source = DeltaTable.forPath(spark, path)
    source.update(f"id % 31 = {number % 31}", {"body": f"concat(body, ' of run {number}')"})
    source.delete(f"id % 101 = {number % 101}")
"""
RUN = (
    SESSION
    + """
run = PipelineRun(spark, Pipeline.from_yaml(sys.argv[2]), sys.argv[3], precision="float32")
for name, step in STEPS.items():
    print(name, flush=True)
    step(run)
"""
)
COMPARE = (
    SESSION
    + """
from dataclasses import replace
disturbed = PipelineRun(spark, Pipeline.from_yaml(sys.argv[2]), "", precision="float32")
fresh = PipelineRun(spark, Pipeline.from_yaml(sys.argv[3]), "fresh", precision="float32")
for step in STEPS.values():
    step(fresh)

def content(run, name):
    rows = run.lake.read(spark, name)
    rows = rows.where("deleted_at IS NULL") if name == "tags" else rows
    return [row.asDict(recursive=True) for row in rows.drop("run_id", "tagged_at", "deleted_at").collect()]

def equal(row, expected):
    close = all(abs(row["scores"][label] - score) <= 1e-5 for label, score in expected["scores"].items())
    return close and {**row, "scores": None} == {**expected, "scores": None}

result = {"rows": 0, "lost": [], "duplicated": [], "different": []}
for name in ("tags", "kept", "rejected", "quarantined", *fresh.pipeline.rules.destinations):
    expected = {row["doc_id"]: row for row in content(fresh, name)}
    rows = content(disturbed, name)
    by_id = {row["doc_id"]: row for row in rows}
    result["rows"] += len(expected)
    result["lost"] += [(name, key) for key in expected.keys() - by_id.keys()]
    result["duplicated"] += [(name, key) for key in by_id.keys() - expected.keys()]
    result["duplicated"] += [(name,)] * (len(rows) - len(by_id))
    both = expected.keys() & by_id.keys()
    result["different"] += [(name, key) for key in both if not equal(by_id[key], expected[key])]
print(json.dumps(result))
"""
)


@dataclass
class Outcome:
    """The result of a chaos test.

    kills: by victim. survived: kills after which the run completed without a restart. runs: completed runs.
    rows: rows compared with the tables of an undisturbed run on the same documents. lost: rows missing from the tables.
    duplicated: rows that only the tables have, or that they have twice. different: rows with other content.
    """

    kills: Counter[str] = field(default_factory=Counter)
    survived: int = 0
    runs: int = 0
    rows: int = 0
    lost: list[list[str]] = field(default_factory=list)
    duplicated: list[list[str]] = field(default_factory=list)
    different: list[list[str]] = field(default_factory=list)


class Chaos:
    """Runs a pipeline with `model` on the cluster, in `folder`, and kills its processes."""

    def __init__(self, cluster: StandaloneCluster, folder: Path, model: str, seed: int) -> None:
        self._cluster = cluster
        self._folder = folder
        self._random = random.Random(seed)  # noqa: S311 - not for cryptography
        settings = {**QUICK_SPARK, "spark.driver.memory": "1g"}
        cluster_settings = {
            "spark.master": cluster.master_url,
            "spark.driver.host": "127.0.0.1",
            "spark.executor.cores": 1,
            "spark.executor.memory": "1g",
            "spark.cores.max": 2,
        }
        self._in_process = self._write("local.yaml", {**settings, "spark.master": "local[2]"})
        self._on_cluster = self._write("cluster.yaml", {**settings, **cluster_settings})
        document = {
            "name": "mail",
            "source": {"path": "mail", "id": "id", "text": "body"},
            "label_set": ["spam", "lake"],
            "model": model,
            "tables": "lake",
            "reject": [{"reason": "too_short", "when": "token_count < 4"}],
            "routes": [{"route": "odd", "when": "id % 2 = 1"}, {"route": "three", "when": "id % 3 = 0"}],
            "routing": "every_match",
            "max_error_ratio": 0.5,
        }
        self._pipeline = self._write("mail.yaml", document)
        self._fresh = self._write("fresh.yaml", {**document, "tables": "fresh"})

    def run(self, kills: int, victims: tuple[str, ...] = VICTIMS) -> Outcome:
        """Repeat runs until there were this many kills, then compare the tables."""
        outcome = Outcome()
        while sum(outcome.kills.values()) < kills:
            self._write_documents(outcome.runs)
            self._run_with_kills(outcome, kills, victims)
        result = json.loads(self._run_program(COMPARE, self._in_process, self._pipeline, self._fresh).splitlines()[-1])
        outcome.rows, outcome.lost = result["rows"], result["lost"]
        outcome.duplicated, outcome.different = result["duplicated"], result["different"]
        return outcome

    def _run_with_kills(self, outcome: Outcome, kills: int, victims: tuple[str, ...]) -> None:
        """Restart one run until it completes, with kills while some are left."""
        attempts = 0
        while True:
            attempts += 1
            started = time.monotonic()
            driver = self._start(RUN, self._on_cluster, self._pipeline, f"run-{outcome.runs}-{attempts}")
            kills_before = sum(outcome.kills.values())
            while driver.poll() is None and sum(outcome.kills.values()) < kills:
                self._wait(driver, self._random.uniform(0, _NEXT_KILL_S))
                victim = self._kill_next(driver, victims, sum(outcome.kills.values()))
                if victim is not None:
                    outcome.kills[victim] += 1
                    seconds = time.monotonic() - started
                    print(f"kill {sum(outcome.kills.values())}: {victim}, {seconds:.0f} s in", flush=True)
            driver.wait(timeout=_RUN_S)
            if driver.returncode == 0:
                outcome.survived += sum(outcome.kills.values()) - kills_before
                outcome.runs += 1
                return
            if sum(outcome.kills.values()) == kills_before:
                raise AssertionError(f"an undisturbed run failed:\n{self._log()}")

    def _kill_next(self, driver: subprocess.Popen[bytes], victims: tuple[str, ...], turn: int) -> str | None:
        """Kill the victim whose turn it is, or the next one that is running. Return it, or None if the run is over."""
        for offset in range(len(victims)):
            victim = victims[(turn + offset) % len(victims)]
            if driver.poll() is None and self._kill(victim, driver):
                return victim
        return None

    def _kill(self, victim: str, driver: subprocess.Popen[bytes]) -> bool:
        """Kill such a process, and return whether there was one."""
        if victim == "driver":
            os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()
        elif victim == "executor":
            return self._kill_one(self._cluster.java_pids("CoarseGrainedExecutorBackend"))
        elif victim == "python worker":
            # They run only while texts are scored.
            self._wait(driver, _NEXT_KILL_S, until=self._python_workers)
            return self._kill_one(self._python_workers())
        else:
            self._cluster.kill(
                self._random.choice([worker for worker in self._cluster.workers if worker.poll() is None])
            )
            self._cluster.start_worker()
        return True

    def _kill_one(self, pids: list[int]) -> bool:
        if pids:
            os.kill(self._random.choice(pids), signal.SIGKILL)
        return bool(pids)

    def _python_workers(self) -> list[int]:
        pids = []
        for executor in self._cluster.java_pids("CoarseGrainedExecutorBackend"):
            try:
                pids += [child.pid for child in psutil.Process(executor).children(recursive=True)]
            except psutil.Error:
                continue
        return pids

    def _write_documents(self, number: int) -> None:
        self._run_program(WRITE, self._in_process, self._folder / "mail", str(number), str(ROWS))

    def _run_program(self, program: str, *arguments: str | Path) -> str:
        assert self._start(program, *arguments).wait(timeout=_RUN_S) == 0, self._log()
        return self._log()

    def _log(self) -> str:
        """Return the end of the last program's output."""
        return (self._folder / "program.log").read_text(errors="replace")[-20_000:]

    def _start(self, program: str, *arguments: str | Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", program, *map(str, arguments)]
        with (self._folder / "program.log").open("wb") as log:
            # Its own process group: killing the driver kills its JVM too.
            return subprocess.Popen(command, stdout=log, stderr=log, env=self._cluster.env, start_new_session=True)

    @staticmethod
    def _wait(driver: subprocess.Popen[bytes], seconds: float, until: Callable[[], object] = lambda: False) -> None:
        """Wait this long, or until the run ends or `until` returns something true."""
        end = time.monotonic() + seconds
        while driver.poll() is None and time.monotonic() < end and not until():
            time.sleep(0.2)

    def _write(self, name: str, document: dict[str, object]) -> Path:
        path = self._folder / name
        path.write_text(yaml.safe_dump(document))
        return path
