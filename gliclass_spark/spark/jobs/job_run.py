"""One job of a run: from the claim of its sequence number to its row in `runs`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from delta.tables import DeltaTable
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.runs.freshness import incremental_base, last_success
from gliclass_spark.runs.manifest import FAILED, RUNNING, SUCCEEDED, Manifest, VersionRange
from gliclass_spark.spark.delta.change_feed import Changes, Projection, read_changes
from gliclass_spark.spark.delta.commits import Commits
from gliclass_spark.spark.delta.schema import KEY
from gliclass_spark.spark.delta.table_ref import TableRef
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun
from gliclass_spark.spark.spark_errors import SPARK_ERRORS, reporting_spark_errors, root_cause


@dataclass
class Job:
    """A claimed job of a run.

    base: the last success, if this job may build on its results. contested: whether another run has
    claimed the job since the last success, and may be alive. earlier: the manifests at the time of the
    claim. facts: fields of the manifest that are recorded even if the job fails.
    """

    run: PipelineRun
    manifest: Manifest
    base: Manifest | None
    commits: Commits
    contested: bool
    earlier: list[Manifest]
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    _cached: list[DataFrame] = field(default_factory=list)

    @property
    def unfinished_runs(self) -> set[str]:
        """The ids of the runs that claimed the job since its last success, and may have written."""
        last = last_success(self.earlier, self.manifest.job)
        rows = (row for row in self.earlier if row.job == self.manifest.job)
        return {row.run_id for row in rows if last is None or row.sequence > last.sequence}

    def rows_of_unfinished_runs(self, table: str) -> DataFrame:
        """Return the keys of the rows in a table that unfinished runs wrote.

        What they read may be gone without a trace in the source's change feed: a table that is put back from a copy
        of its files continues from the last success, not from what such a run has read.
        """
        rows = self.run.lake.read(self.run.spark, table)
        # A checkpoint: Spark would compute a cached query anew once the job has changed the table.
        return rows.where(F.col("run_id").isin(self.unfinished_runs)).select(KEY).localCheckpoint()

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the seconds of the block to those of the step."""
        started = time.perf_counter()
        yield
        self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - started

    def decide_all(self, reason: str | None = None) -> None:
        """Make this a full scan, with the reason as a note."""
        self.base = None
        if reason is not None:
            self.notes.append(reason)

    def changes(self, name: str, table: TableRef, current: VersionRange, project: Projection) -> Changes:
        """Return the changes of an input table since the base (see `read_changes`); they are cached for the job."""
        base, base_commit = None, None
        if self.base is not None:
            base, base_commit = self.base.inputs.get(name), self.base.commits.get(name)
        changes = read_changes(self.run.spark, table, base, base_commit, current, project)
        if changes.cached is not None:
            self._cached.append(changes.cached)
        if changes.note:
            self.notes.append(changes.note)
        return changes

    def cache(self, rows: DataFrame) -> DataFrame:
        """Cache rows that are read several times until the job ends."""
        self._cached.append(rows.persist(StorageLevel.MEMORY_AND_DISK))
        return rows

    def uncache(self) -> None:
        """Drop what the job has cached, the latest first: Spark would plan frames anew whose input is dropped."""
        for rows in reversed(self._cached):
            rows.unpersist()

    def append(self, table: str, rows: DataFrame) -> None:
        """Append rows to a table; see `Commits`."""
        self.commits.append(rows, self.run.lake.table(table))

    def overwrite(self, table: str, rows: DataFrame) -> None:
        """Replace the rows and columns of a table; see `Commits`."""
        self.commits.overwrite(rows, self.run.lake.table(table))

    def truncate(self, table: str) -> None:
        """Remove all rows of a table; see `Commits`."""
        self.commits.truncate(self.run.lake.table(table))

    def change(self, table: str, write: Callable[[DeltaTable], object]) -> None:
        """Call `write` with the table, which merges or deletes in one commit; see `Commits`."""
        self.commits.change(self.run.lake.table(table), write)

    def fence(self, tables: Iterable[str]) -> None:
        """Lock earlier runs of the job, which may be alive, out of those of the tables that exist.

        Called before a job reads: what an earlier run wrote before it is then older than what this job reads.
        """
        for table in tables:
            if self.contested and self.run.lake.exists(self.run.spark, table):
                self.commits.fence(self.run.lake.table(table))

    def versions_read(self, full_scan: bool, **tables: tuple[TableRef | None, VersionRange]) -> dict[str, Any]:
        """Return the manifest's fields about the versions of its input tables."""
        base = {} if full_scan or self.base is None else self.base.inputs
        inputs = {name: replace(read, since=base[name].until if base else None) for name, (_, read) in tables.items()}
        commits = {
            name: commit
            for name, (table, read) in tables.items()
            if table is not None and (commit := table.commit_id(self.run.spark, read.until)) is not None
        }
        return {"full_scan": full_scan, "inputs": inputs, "commits": commits}

    def succeed(self, **facts: Any) -> Manifest:
        """Check the counts, append the manifest to `runs` and return it.

        Raises ManifestError if the counts do not add up, SupersededError if a later run claimed the job.
        """
        manifest = self._ended(SUCCEEDED, facts)
        manifest.check()
        self.run.runs.finish(manifest)
        return manifest

    def fail(self, error: Exception) -> None:
        """Append the manifest of the failed job to `runs`. Raises SupersededError if that explains the error."""
        try:
            # In a superseded run, tables that the later one has written may cause any error: `finish` raises that.
            self.notes.append(root_cause(error))
            self.run.runs.finish(self._ended(FAILED, self.facts))
        except SPARK_ERRORS as second:  # as on a full disk
            error.add_note(f"The failure could not be recorded in `runs` either: {root_cause(second)}")

    def _ended(self, status: str, facts: dict[str, Any]) -> Manifest:
        return replace(
            self.manifest,
            status=status,
            finished_at=datetime.now(UTC),
            step_seconds={step: round(seconds, 3) for step, seconds in self.seconds.items()},
            message="; ".join(self.notes) or None,
            **facts,
        )


@contextmanager
def claimed_job(run: PipelineRun, name: str, settings: str, recent: list[Manifest], **facts: Any) -> Iterator[Job]:
    """Claim the job for this run; record an error of the block in `runs`.

    settings: their hash (see `runs.settings`). recent: the result of `Runs.recent`. Raises SupersededError if
    a later run has claimed the job.
    """
    pipeline = run.pipeline
    started = datetime.now(UTC)
    manifest = Manifest(
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
        # The base is taken from the rows after the claim: no earlier run can finish from then on and be missed.
        manifest, earlier = run.runs.claim(manifest, recent)
        base = None if run.full else incremental_base(earlier, name, settings)
        last = last_success(earlier, name)
        contested = manifest.sequence != 1 + (last.sequence if last is not None else 0)
        commits = Commits(run.spark, f"{pipeline.name}/{name}", manifest.sequence)
        job = Job(run, manifest, base, commits, contested, earlier)
        try:
            # A slower run with an older file would otherwise decide last, by rules that are no longer in force.
            pipeline.check_unchanged()
            yield job
        except Exception as error:
            job.fail(error)
            raise
        finally:
            job.uncache()


def finished_job(run: PipelineRun, name: str, settings: str, recent: list[Manifest]) -> Manifest | None:
    """Return this run's earlier success of the job with these settings; None if there is none or it is to run again."""
    if run.full or run.retag == "all":
        return None
    # The model's URI, too: tags by another model are to be decided about again.
    return last_success(recent, name, run_id=run.run_id, settings_hash=settings, model=run.pipeline.model)
