"""Nights on a cluster whose processes are killed at random moments, and the look at what is left of them."""

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

# Behind a Spark worker's end the other one still scores; behind an executor's, Python workers are yet to come.
VICTIMS = ("driver", "executor", "spark worker", "python worker")
ROWS = 3000
_RUN_S = 600
# The next kill falls at a random moment within it: shorter than a night, so that most nights see several.
_NEXT_KILL_S = 40

SESSION = """
import json, sys
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.spark.session import spark_session
from gliclass_spark.spark.jobs import STEPS, PipelineRun
spark = spark_session(sys.argv[1])
"""
# The documents of night n: some more, some changed, some gone.
# Imports as little as it can: torch alone takes longer than the writing.
WRITE = """
import sys
from delta.tables import DeltaTable
from pyspark.sql import functions as F
from gliclass_spark.spark.session import spark_session
spark = spark_session(sys.argv[1])
path, night, rows = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
first = 0 if night == 0 else rows + 100 * (night - 1)
new = spark.range(first, first + (rows if night == 0 else 100), 1, 2).select(
    F.col("id").cast("string").alias("id"),
    F.when(F.col("id") % 97 == 0, None).when(F.col("id") % 89 == 0, "  ").when(F.col("id") % 7 == 0, "short")
    .otherwise(F.expr("concat('document ', id, ' of a lake', repeat(' of data', CAST(id % 40 AS INT)))")).alias("body"),
)
new.write.format("delta").mode("append").option("delta.enableChangeDataFeed", "true").save(path)
if night:
    source = DeltaTable.forPath(spark, path)
    source.update(f"id % 31 = {night % 31}", {"body": f"concat(body, ' of night {night}')"})
    source.delete(f"id % 101 = {night % 101}")
"""
NIGHT = (
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

def said(run, name):
    rows = run.lake.read(spark, name)
    rows = rows.where("deleted_at IS NULL") if name == "tags" else rows
    return [row.asDict(recursive=True) for row in rows.drop("run_id", "tagged_at", "deleted_at").collect()]

def same(one, other):
    far = any(abs(one["scores"][label] - score) > 1e-5 for label, score in other["scores"].items())
    return not far and {**one, "scores": None} == {**other, "scores": None}

found = {"rows": 0, "lost": [], "doubled": [], "different": []}
for name in ("tags", "kept", "rejected", "quarantined", *fresh.pipeline.rules.destinations):
    expected = {row["doc_id"]: row for row in said(fresh, name)}
    rows = said(disturbed, name)
    by_id = {row["doc_id"]: row for row in rows}
    found["rows"] += len(expected)
    found["lost"] += [(name, key) for key in expected.keys() - by_id.keys()]
    found["doubled"] += [(name, key) for key in by_id.keys() - expected.keys()] + [(name,)] * (len(rows) - len(by_id))
    found["different"] += [(name, key) for key in expected.keys() & by_id.keys() if not same(by_id[key], expected[key])]
print(json.dumps(found))
"""
)


@dataclass
class Outcome:
    """kills: by victim. survived: kills that the run got over by itself. nights: runs that came to their end.

    lost, doubled, different: rows of the tables that an undisturbed run on the same documents has, and
    these have not, or the other way round, or that say something else; of `rows` compared.
    """

    kills: Counter[str] = field(default_factory=Counter)
    survived: int = 0
    nights: int = 0
    rows: int = 0
    lost: list[list[str]] = field(default_factory=list)
    doubled: list[list[str]] = field(default_factory=list)
    different: list[list[str]] = field(default_factory=list)


class Chaos:
    """Runs nights on the cluster in `folder`, with `model`, and kills their processes."""

    def __init__(self, cluster: StandaloneCluster, folder: Path, model: str, seed: int) -> None:
        self._cluster = cluster
        self._folder = folder
        self._random = random.Random(seed)  # noqa: S311 - no secret
        quick = {**QUICK_SPARK, "spark.driver.memory": "1g"}
        spread = {
            "spark.master": cluster.master_url,
            "spark.driver.host": "127.0.0.1",
            "spark.executor.cores": 1,
            "spark.executor.memory": "1g",
            "spark.cores.max": 2,
        }
        self._local = self._write("local.yaml", {**quick, "spark.master": "local[2]"})
        self._spread = self._write("cluster.yaml", {**quick, **spread})
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
        """Nights, each to its end, until there were as many kills; then the comparison."""
        outcome = Outcome()
        while sum(outcome.kills.values()) < kills:
            self._documents(outcome.nights)
            self._night(outcome, kills, victims)
        found = json.loads(self._done(COMPARE, self._local, self._pipeline, self._fresh).splitlines()[-1])
        outcome.rows, outcome.lost, outcome.doubled = found["rows"], found["lost"], found["doubled"]
        outcome.different = found["different"]
        return outcome

    def _night(self, outcome: Outcome, kills: int, victims: tuple[str, ...]) -> None:
        """One night: started again until it comes to its end, with kills while there are some left."""
        attempts = 0
        while True:
            attempts += 1
            started = time.monotonic()
            driver = self._start(NIGHT, self._spread, self._pipeline, f"night-{outcome.nights}-{attempts}")
            before = sum(outcome.kills.values())
            while driver.poll() is None and sum(outcome.kills.values()) < kills:
                self._wait(driver, self._random.uniform(0, _NEXT_KILL_S))
                victim = self._kill_next(driver, victims, sum(outcome.kills.values()))
                if victim is not None:
                    outcome.kills[victim] += 1
                    seconds = time.monotonic() - started
                    print(f"kill {sum(outcome.kills.values())}: {victim}, {seconds:.0f} s in", flush=True)
            driver.wait(timeout=_RUN_S)
            if driver.returncode == 0:
                outcome.survived += sum(outcome.kills.values()) - before
                outcome.nights += 1
                return
            if sum(outcome.kills.values()) == before:
                raise AssertionError(f"a run that nobody disturbed failed:\n{self._said()}")

    def _kill_next(self, driver: subprocess.Popen[bytes], victims: tuple[str, ...], turn: int) -> str | None:
        """Kill the one whose turn it is; the next one, where that one does not run just now. None: the run is over."""
        for place in range(len(victims)):
            victim = victims[(turn + place) % len(victims)]
            if driver.poll() is None and self._kill(victim, driver):
                return victim
        return None

    def _kill(self, victim: str, driver: subprocess.Popen[bytes]) -> bool:
        """Whether there was one to kill."""
        if victim == "driver":
            os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()
        elif victim == "executor":
            return self._kill_one(self._cluster.java_pids("CoarseGrainedExecutorBackend"))
        elif victim == "python worker":
            # They are there while texts are scored, and not for long.
            self._wait(driver, _NEXT_KILL_S, until=self._python_workers)
            return self._kill_one(self._python_workers())
        else:
            self._cluster.kill(self._random.choice([each for each in self._cluster.workers if each.poll() is None]))
            self._cluster.start_worker()
        return True

    def _kill_one(self, pids: list[int]) -> bool:
        if pids:
            os.kill(self._random.choice(pids), signal.SIGKILL)
        return bool(pids)

    def _python_workers(self) -> list[int]:
        found = []
        for executor in self._cluster.java_pids("CoarseGrainedExecutorBackend"):
            try:
                found += [child.pid for child in psutil.Process(executor).children(recursive=True)]
            except psutil.Error:
                continue
        return found

    def _documents(self, night: int) -> None:
        self._done(WRITE, self._local, self._folder / "mail", str(night), str(ROWS))

    def _done(self, program: str, *arguments: str | Path) -> str:
        assert self._start(program, *arguments).wait(timeout=_RUN_S) == 0, self._said()
        return self._said()

    def _said(self) -> str:
        """The end of what the last program said."""
        return (self._folder / "program.log").read_text(errors="replace")[-20_000:]

    def _start(self, program: str, *arguments: str | Path) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-c", program, *map(str, arguments)]
        with (self._folder / "program.log").open("wb") as log:
            # A process group of its own: a killed driver takes its JVM with it.
            return subprocess.Popen(command, stdout=log, stderr=log, env=self._cluster.env, start_new_session=True)

    @staticmethod
    def _wait(driver: subprocess.Popen[bytes], seconds: float, until: Callable[[], object] = lambda: False) -> None:
        """So many seconds, or less if the run ends, or `until` gives something."""
        end = time.monotonic() + seconds
        while driver.poll() is None and time.monotonic() < end and not until():
            time.sleep(0.2)

    def _write(self, name: str, document: dict[str, object]) -> Path:
        path = self._folder / name
        path.write_text(yaml.safe_dump(document))
        return path
