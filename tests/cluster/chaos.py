"""Chaos: runs on a cluster whose processes are killed, over a source that changes between their attempts."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import yaml
from altered_source import AlteredSource
from pyspark.sql import SparkSession
from quick_spark import QUICK_SPARK
from stored_tables import stored_table

from devtools.standalone_cluster import StandaloneCluster
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.spark.jobs import STEPS, PipelineRun

# In turn. A driver's kill ends the attempt; Python workers run early in the next one, which the others may all disturb.
VICTIMS = ("driver", "python worker", "executor", "spark worker")
# Of the source, between two attempts.
_CHANGES = 2
_RUN_S = 600
# The next kill comes when the driver has passed a random number of places up to this one, at a random moment within
# the seconds below. A run has about 30 places, so most runs see several kills; on a slow machine, too.
_PLACES = 12
_MOMENT_S = 3
_SCORING_S = 40
# Columns about the run that wrote a row.
_LINEAGE = ("run_id", "tagged_at", "deleted_at")
_AT = "at "

# The driver's program prints where it is, so that a kill can be located.
RUN = """
import sys
from contextlib import contextmanager
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.spark.jobs import STEPS, PipelineRun
from gliclass_spark.spark.jobs.job_run import Job
from gliclass_spark.spark.session import spark_session

timed = Job.timed

@contextmanager
def printed(job, step):
    print("at", job.manifest.job, step, flush=True)
    with timed(job, step):
        yield
    print("at", job.manifest.job, "after", step, flush=True)

Job.timed = printed
run = PipelineRun(spark_session(sys.argv[1]), Pipeline.from_yaml(sys.argv[2]), sys.argv[3], precision="float32")
for name, step in STEPS.items():
    print("at", name, "claim", flush=True)
    step(run)
"""


@dataclass
class Outcome:
    """The result of a chaos test.

    kills: by the job and step in which the driver was, and the victim. survived: kills after which the attempt
    completed. attempts, runs: those started, those completed. changes: of the source between attempts, by kind.
    rows: rows compared with the tables of an undisturbed run on the same documents. lost: rows missing from the tables.
    duplicated: rows that only the tables have, or that they have twice. stale: rows with other content, and tables
    with other columns.
    """

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    survived: int = 0
    attempts: int = 0
    runs: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    lost: list[tuple[str, str]] = field(default_factory=list)
    duplicated: list[tuple[str, str]] = field(default_factory=list)
    stale: list[tuple[str, str]] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """Return the lines of a summary."""
        places = sorted({place for place, _ in self.kills})
        width = max(map(len, ["killed in", *places, *self.changes]), default=0) + 2
        yield f"{'killed in':{width}}" + "".join(f"{victim:>15}" for victim in VICTIMS)
        for place in places:
            counts = (self.kills[place, victim] or "" for victim in VICTIMS)
            yield f"{place:{width}}" + "".join(f"{count:>15}" for count in counts)
        totals = (sum(count for (_, killed), count in self.kills.items() if killed == victim) for victim in VICTIMS)
        yield f"{f'{self.kills.total()} kills':{width}}" + "".join(f"{total:>15}" for total in totals)
        yield ""
        yield f"{'source changed between attempts':{width}}{'times':>15}"
        yield from (f"{change:{width}}{count:>15}" for change, count in sorted(self.changes.items()))
        yield ""
        yield (
            f"{self.attempts} attempts, {self.runs} completed, {self.survived} kills survived without a restart; "
            f"{self.rows} rows compared: {len(self.lost)} lost, {len(self.duplicated)} duplicated, "
            f"{len(self.stale)} stale"
        )


class Chaos:
    """Runs a pipeline with `model` on the cluster, in `folder`, and kills its processes.

    spark: a session outside the cluster, for the source and the undisturbed run.
    """

    def __init__(self, cluster: StandaloneCluster, spark: SparkSession, folder: Path, model: str, seed: int) -> None:
        self._cluster = cluster
        self._spark = spark
        self._folder = folder
        self._random = random.Random(seed)  # noqa: S311 - not for cryptography
        self._conf = self._write(
            "cluster.yaml",
            {
                **QUICK_SPARK,
                "spark.driver.memory": "1g",
                "spark.master": cluster.master_url,
                "spark.driver.host": "127.0.0.1",
                "spark.executor.cores": 1,
                "spark.executor.memory": "1g",
                "spark.cores.max": 2,
            },
        )
        document = {
            "name": "mail",
            "source": {"path": "mail", "id": "id", "text": "body"},
            "label_set": ["spam", "lake"],
            "model": model,
            "tables": "lake",
            "reject": [{"reason": "too_short", "when": "token_count < 4"}],
            "routes": [{"route": "odd", "when": "n % 2 = 1"}, {"route": "three", "when": "n % 3 = 0"}],
            "routing": "every_match",
            "max_error_ratio": 0.5,
        }
        self._pipeline = self._write("mail.yaml", document)
        self._source = AlteredSource(spark, folder / "mail", seed)

    def run(self, kills: int, victims: tuple[str, ...] = VICTIMS) -> Outcome:
        """Change the source and attempt a run until there were this many kills, then compare the tables."""
        outcome = Outcome()
        run_id, is_new, completed = "run-0", True, False
        # An attempt of a run that has tagged before does not tag what came later: the last run is a new one.
        while not (completed and is_new and outcome.kills.total() >= kills):
            if outcome.attempts:
                for _ in range(_CHANGES):
                    change = self._source.change()
                    outcome.changes[change] += 1
                    print(f"source: {change}", flush=True)
                is_new = completed or outcome.kills.total() >= kills or self._random.random() < 0.5
                run_id = f"run-{outcome.attempts}" if is_new else run_id
            completed = self._attempt(run_id, outcome, kills, victims)
        self._compare(outcome)
        return outcome

    def _attempt(self, run_id: str, outcome: Outcome, kills: int, victims: tuple[str, ...]) -> bool:
        """Start a run, with kills while some are left. Return whether it completed."""
        started = time.monotonic()
        outcome.attempts += 1
        driver = self._start(RUN, self._conf, self._pipeline, run_id)
        kills_before = outcome.kills.total()
        try:
            while driver.poll() is None and outcome.kills.total() < kills:
                self._wait_for_a_moment(driver, victims[outcome.kills.total() % len(victims)])
                killed = self._kill_next(driver, victims, outcome.kills.total())
                if killed is not None:
                    outcome.kills[killed] += 1
                    seconds = time.monotonic() - started
                    print(f"kill {outcome.kills.total()}: {killed[1]}, in {killed[0]}, {seconds:.0f} s in", flush=True)
            driver.wait(timeout=_RUN_S)
        finally:
            if driver.poll() is None:
                os.killpg(driver.pid, signal.SIGKILL)
        if driver.returncode == 0:
            outcome.survived += outcome.kills.total() - kills_before
            outcome.runs += 1
        elif outcome.kills.total() == kills_before:
            raise AssertionError(f"an undisturbed run failed:\n{self._log()}")
        return driver.returncode == 0

    def _wait_for_a_moment(self, driver: subprocess.Popen[bytes], victim: str) -> None:
        """Wait for a random moment of the run, or until it ends."""
        if victim == "python worker":  # they run only while texts are scored
            self._wait(driver, _RUN_S, until=lambda: self._place() == "tag score")
            self._wait(driver, _SCORING_S, until=self._python_workers)
        else:
            place = len(self._places()) + self._random.randrange(_PLACES)
            self._wait(driver, _RUN_S, until=partial(self._has_passed, place))
            self._wait(driver, self._random.uniform(0, _MOMENT_S))

    def _kill_next(
        self, driver: subprocess.Popen[bytes], victims: tuple[str, ...], turn: int
    ) -> tuple[str, str] | None:
        """Kill the victim whose turn it is, or the next one that is running.

        Return where the driver was, and the victim; None if the run is over.
        """
        for offset in range(len(victims)):
            victim = victims[(turn + offset) % len(victims)]
            place = self._place()
            if driver.poll() is None and self._kill(victim, driver):
                return place, victim
        return None

    def _kill(self, victim: str, driver: subprocess.Popen[bytes]) -> bool:
        """Kill such a process, and return whether there was one."""
        if victim == "driver":
            os.killpg(driver.pid, signal.SIGKILL)
            driver.wait()
        elif victim == "executor":
            return self._kill_one(self._cluster.java_pids("CoarseGrainedExecutorBackend"))
        elif victim == "python worker":
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

    def _places(self) -> list[str]:
        """Return the jobs and steps that the driver has printed."""
        lines = (self._folder / "program.log").read_text(errors="replace").splitlines()
        return [line.removeprefix(_AT) for line in lines if line.startswith(_AT)]

    def _has_passed(self, count: int) -> bool:
        return len(self._places()) >= count

    def _place(self) -> str:
        """Return where the driver is."""
        return (self._places() or ["start"])[-1]

    def _compare(self, outcome: Outcome) -> None:
        """Run an undisturbed pipeline over the same documents, and add to the outcome where the tables differ."""
        pipeline = Pipeline.from_yaml(self._pipeline)
        disturbed = PipelineRun(self._spark, pipeline, "", precision="float32")
        undisturbed = pipeline.model_copy(update={"tables": str(self._folder / "undisturbed")})
        fresh = replace(disturbed, pipeline=undisturbed, run_id="fresh")
        for step in STEPS.values():
            step(fresh)
        for name in ("tags", "kept", "rejected", "quarantined", *pipeline.rules.destinations):
            columns, rows = self._content(disturbed, name)
            expected_columns, expected_rows = self._content(fresh, name)
            if columns != expected_columns:
                outcome.stale.append((name, f"columns {columns}, expected {expected_columns}"))
            expected, by_id = ({row["doc_id"]: row for row in each} for each in (expected_rows, rows))
            outcome.rows += len(expected)
            outcome.lost += [(name, key) for key in expected.keys() - by_id.keys()]
            outcome.duplicated += [(name, key) for key in by_id.keys() - expected.keys()]
            outcome.duplicated += [
                (name, key) for key, count in Counter(r["doc_id"] for r in rows).items() if count > 1
            ]
            both = expected.keys() & by_id.keys()
            outcome.stale += [(name, key) for key in both if not _equal(by_id[key], expected[key])]

    @staticmethod
    def _content(run: PipelineRun, name: str) -> tuple[list[str], list[dict[str, Any]]]:
        """Return the sorted columns of a table with their types, and its rows without those about runs."""
        types, rows = stored_table(run.spark, run.lake.table(name))
        columns = sorted(f"{column} {kind}" for column, kind in types.items() if column not in _LINEAGE)
        live = [row for row in rows if row.get("deleted_at") is None]
        return columns, [{name: value for name, value in row.items() if name not in _LINEAGE} for row in live]

    def _log(self) -> str:
        """Return the end of the program's output."""
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


def _equal(row: dict[str, Any], expected: dict[str, Any]) -> bool:
    close = all(abs(row["scores"].get(label, 2) - score) <= 1e-5 for label, score in expected["scores"].items())
    return close and {**row, "scores": None} == {**expected, "scores": None}
