"""A run of a pipeline, and one job of it: from the claim to the manifest row."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from py4j.protocol import Py4JJavaError
from pyspark import StorageLevel
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from gliclass_spark.config.pipeline import Pipeline, Retag
from gliclass_spark.errors import JobError
from gliclass_spark.runs.manifest import FAILED, RUNNING, SUCCEEDED, Manifest, VersionRange
from gliclass_spark.spark.delta import change_feed, tables
from gliclass_spark.spark.delta.change_feed import Changes, TableRef
from gliclass_spark.spark.delta.commits import Commits
from gliclass_spark.spark.delta.runs_table import Runs, last_success, incremental_base
from gliclass_spark.spark.delta.tables import Lake, TableSpec
from gliclass_spark.spark.source import Documents

if TYPE_CHECKING:
    from gliclass_spark.inference.device import Precision

Progress = Callable[[int, int], None]
_SPARK_ERRORS = (PySparkException, Py4JJavaError)


@dataclass(frozen=True)
class PipelineRun:
    """One run of a pipeline: a night, say. Its jobs share the id, and can be run again under it.

    retag: what `tag` asks the model again: "changed" texts, label sets and models; "all"; or "none",
    which leaves the tags of an earlier model as they are. full: look at every document, not only at
    those that changed since the last run. until: take the source as it was at this time, or as an
    earlier run has already taken it, if that is later; None: as it is. registry: MLflow tracking URI of a models:/ model;
    None: the environment's.
    """

    spark: SparkSession
    pipeline: Pipeline
    run_id: str
    device: str | None = None
    precision: Precision = "auto"
    retag: Retag = "changed"
    full: bool = False
    until: datetime | None = None
    registry: str | None = None
    on_progress: Progress = lambda done, total: None

    @property
    def lake(self) -> Lake:
        return Lake(self.pipeline.tables)

    @property
    def documents(self) -> Documents:
        return Documents(self.spark, self.pipeline.source)

    @property
    def runs(self) -> Runs:
        return Runs(self.spark, self.lake.path("runs"), self.pipeline.name)

    @property
    def title(self) -> str:
        return f"pipeline {self.pipeline.name!r}"


@dataclass
class Job:
    """One job of a run, at work. `base` is the last success whose outcome this one may build on, if any.

    contested: another run has claimed the job since the last success, and may be alive. known: facts
    that go into the manifest even if the job fails.
    """

    run: PipelineRun
    manifest: Manifest
    base: Manifest | None
    commits: Commits
    contested: bool
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    known: dict[str, Any] = field(default_factory=dict)
    _held: list[DataFrame] = field(default_factory=list)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the seconds of the block to those of the step."""
        started = time.perf_counter()
        yield
        self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - started

    def since(self, table: str) -> VersionRange | None:
        """Up to which version the base has read the table."""
        return self.base.inputs.get(table) if self.base is not None else None

    def changes(
        self,
        table: str,
        address: TableRef,
        now: VersionRange,
        shaped: Callable[[DataFrame, tuple[str, ...]], DataFrame],
    ) -> Changes:
        """See `changes.changes`: those since the base. What they hold is let go at the end of the job."""
        found = change_feed.read_changes(self.run.spark, address, self.since(table), now, shaped)
        self._held += [found.held] if found.held is not None else []
        if found.note:
            self.notes.append(found.note)
        return found

    def hold(self, rows: DataFrame) -> DataFrame:
        """Keep the rows, once computed, until the end of the job: they are read several times."""
        self._held.append(rows.persist(StorageLevel.MEMORY_AND_DISK))
        return rows

    def release(self) -> None:
        for rows in reversed(self._held):  # what others build on goes last: Spark would plan those anew
            rows.unpersist()

    def commit(self, table: str, write: Callable[[str], object]) -> None:
        """`write(path)`, which commits once to the table, in this job's turn: see `Commits.commit`."""
        path = self.run.lake.path(table)
        self.commits.commit(path, lambda: write(path))

    def facts(self, **facts: Any) -> Manifest:
        """The manifest with these facts, as of now."""
        return replace(
            self.manifest,
            finished_at=datetime.now(UTC),
            step_seconds={step: round(seconds, 3) for step, seconds in self.seconds.items()},
            message="; ".join(self.notes) or None,
            **facts,
        )


@contextmanager
def job(run: PipelineRun, name: str, settings: str, known: list[Manifest], **facts: Any) -> Iterator[Job]:
    """Claim the job for this run; at an error, write down that it failed, and why.

    `settings` is what `settings_of` gives, `known` what `Runs.recent` gave. Raises SupersededError if a
    later run has claimed the job.
    """
    pipeline = run.pipeline
    started = datetime.now(UTC)
    wanted = Manifest(
        run_id=run.run_id,
        pipeline=pipeline.name,
        job=name,
        status=RUNNING,
        sequence=0,
        started_at=started,
        finished_at=started,
        source=run.documents.name,
        label_set=pipeline.label_set.name,
        label_set_hash=pipeline.label_set.hash,
        rules_hash=pipeline.rules.hash,
        settings_hash=settings,
        model=pipeline.model,
        **facts,
    )
    with reporting_spark_errors(f"{name} of {run.title}"):
        mine, earlier = run.runs.claim(wanted, known)
        # What was there at the claim: from now on no earlier run can finish and be missed.
        base = None if run.full else incremental_base(earlier, name, settings)
        last = last_success(earlier, name)
        contested = mine.sequence != 1 + (last.sequence if last is not None else 0)
        commits = Commits(run.spark, f"{pipeline.name}/{name}", mine.sequence)
        work = Job(run, mine, base, commits, contested)
        try:
            yield work
        except Exception as error:
            _write_down(work, error)
            raise
        finally:
            work.release()


def _write_down(work: Job, error: Exception) -> None:
    """The failed job's row. Raises SupersededError if that explains the error."""
    runs = work.run.runs
    try:
        # What a superseded run finds in its tables may be anything: that it was superseded explains it.
        runs.check_current(work.manifest)
        work.notes.append(cause(error))
        runs.finish(replace(work.facts(**work.known), status=FAILED))
    except _SPARK_ERRORS as also:  # as on a disk that is full
        error.add_note(f"That it failed could not be written into `runs` either: {cause(also)}")


@contextmanager
def reporting_spark_errors(what: str) -> Iterator[None]:
    """Within it, what goes wrong in Spark is told on one line."""
    try:
        yield
    except _SPARK_ERRORS as error:
        raise JobError(
            f"{what} failed: {cause(error)}; no table is left half-written: mend it, and run again"
        ) from error


def finish(work: Job, manifest: Manifest) -> Manifest:
    """Check the counts, and write the row that says so. Counts that don't add up fail the job."""
    done = replace(manifest, status=SUCCEEDED)
    done.check()
    work.run.runs.finish(done)
    return done


def prepare_decisions(work: Job, specs: Mapping[str, TableSpec]) -> None:
    """Make the tables of a job's decisions. If one of them lacks a column, all documents are decided about
    again, to fill it: the base is dropped, with a note.
    """
    for name, spec in specs.items():
        lacks = tables.ensure(work.run.spark, work.run.lake.path(name), spec)
        if lacks:
            work.base = None
            work.notes.append(f"{name} lacked {', '.join(lacks)}: every document was decided about again")


def outputs(run: PipelineRun, names: Iterable[str]) -> dict[str, VersionRange]:
    """The tables as they are now."""
    return {name: run.lake.address(name).latest(run.spark) for name in names}


def cause(error: BaseException) -> str:
    """What went wrong at the bottom of it, on one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return causes[-1] if causes else lines[0]


def settings_of(**settings: object) -> str:
    """SHA-256 of all but the data that an outcome depends on."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()


def counts(rows: DataFrame, by: Any) -> dict[str, int]:
    """How many rows there are of each value."""
    return {row["name"]: row["count"] for row in rows.groupBy(by.alias("name")).count().orderBy("name").collect()}
