"""One job of a run: from the claim of its sequence number to its row in `runs`."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from pyspark import StorageLevel
from pyspark.sql import DataFrame

from gliclass_spark.runs.manifest import FAILED, RUNNING, SUCCEEDED, Manifest, VersionRange
from gliclass_spark.spark.delta.change_feed import Changes, Projection, read_changes
from gliclass_spark.spark.delta.commits import Commits
from gliclass_spark.spark.delta.runs_table import incremental_base, last_success
from gliclass_spark.spark.delta.table_ref import TableRef
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun
from gliclass_spark.spark.spark_errors import SPARK_ERRORS, reporting_spark_errors, root_cause


@dataclass
class Job:
    """A claimed job of a run.

    base: the last success, if this job may build on its results. contested: whether another run has
    claimed the job since the last success, and may be alive. facts: fields of the manifest that are
    recorded even if the job fails.
    """

    run: PipelineRun
    manifest: Manifest
    base: Manifest | None
    commits: Commits
    contested: bool
    seconds: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)
    _cached: list[DataFrame] = field(default_factory=list)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Add the seconds of the block to those of the step."""
        started = time.perf_counter()
        yield
        self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - started

    def base_range(self, table: str) -> VersionRange | None:
        """Return the versions of the table that the base has read; None without a base."""
        return self.base.inputs.get(table) if self.base is not None else None

    def changes(self, name: str, table: TableRef, current: VersionRange, project: Projection) -> Changes:
        """Return the changes of an input table since the base (see `read_changes`); they are cached for the job."""
        changes = read_changes(self.run.spark, table, self.base_range(name), current, project)
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

    def commit(self, table: str, write: Callable[[str], object]) -> None:
        """Call `write(path)`, which commits once to the table; see `Commits.commit`."""
        path = self.run.lake.path(table)
        self.commits.commit(path, lambda: write(path))

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
            # Tables that a later run has written may cause any error in a superseded one.
            self.run.runs.check_current(self.manifest)
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

    `settings` is the result of `settings_hash`, `recent` that of `Runs.recent`. Raises SupersededError if a
    later run has claimed the job.
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
        job = Job(run, manifest, base, commits, contested)
        try:
            yield job
        except Exception as error:
            job.fail(error)
            raise
        finally:
            job.uncache()


def settings_hash(**settings: object) -> str:
    """Return the SHA-256 of the settings: all that a job's results depend on, apart from the data."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()
