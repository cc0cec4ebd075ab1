"""Manifests of a pipeline's runs, read without Spark."""

from __future__ import annotations

from collections.abc import Sequence

from gliclass_spark.config.catalog import table_path
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.errors import TableError
from gliclass_spark.runs.delta_reader import StorageOptions, delta_table, query, table_exists
from gliclass_spark.runs.manifest import RUNNING, SHADOW, SUCCEEDED, Manifest

# Rows of each job, two for each run of it. A run whose base is older than these makes a full scan.
RECENT_ROWS = 1000
_LISTED_ROWS = 9


def recent_manifests(pipeline: Pipeline, storage_options: StorageOptions = None) -> list[Manifest]:
    """Return the recent manifests of each job, latest first; of one run of a job, the end before the start.

    The list is empty if the pipeline has not run yet. Raises TableError if `runs` can't be read.
    """
    return recent_rows(_path(pipeline), pipeline.name, storage_options)


def recent_rows(path: str, pipeline: str, storage_options: StorageOptions = None) -> list[Manifest]:
    """Return `recent_manifests` of the pipeline of this name, from the table `runs` at a path or URI."""
    if not table_exists(path, storage_options):
        return []
    # A job that runs rarely is not hidden by one that runs often, and no clock decides what is recent.
    latest_first = f"partition by job order by sequence desc, status = '{RUNNING}'"
    ranked = f"select *, row_number() over ({latest_first}) as claim_rank from t where pipeline = '{pipeline}'"  # noqa: S608
    rows = query(
        delta_table(path, storage_options=storage_options),
        f"select * from ({ranked}) where claim_rank <= {RECENT_ROWS} "  # noqa: S608 - a name of a-z, 0-9, _ and -
        f"order by started_at desc, status = '{RUNNING}'",
    )
    return [Manifest.from_row(row) for row in rows]


def claimed_destinations(path: str, pipeline: str) -> set[str]:
    """Return every destination that a run of the pipeline has claimed to write, from the table `runs` at a path."""
    if not table_exists(path):
        return set()
    keys = f"select unnest(map_keys(routed)) as name from t where pipeline = '{pipeline}' and job = 'route'"  # noqa: S608
    return {row["name"] for row in query(delta_table(path), f"select distinct name from ({keys})")}  # noqa: S608


def used_label_sets(path: str, pipeline: str, storage_options: StorageOptions = None) -> set[str]:
    """Return the hash of every label set that a run of the pipeline has used, from the table `runs` at a path."""
    if not table_exists(path, storage_options):
        return set()
    sql = f"select distinct label_set_hash from t where pipeline = '{pipeline}'"  # noqa: S608 - a name of a-z, 0-9, _, -
    return {row["label_set_hash"] for row in query(delta_table(path, storage_options=storage_options), sql)}


def last_shadow_sequence(pipeline: Pipeline, model_digest: str, storage_options: StorageOptions = None) -> int:
    """Return the sequence number of the model's last successful shadow run, 0 without one.

    Raises TableError if `runs` can't be read.
    """
    rows = recent_manifests(pipeline, storage_options)
    of_model = (SHADOW, SUCCEEDED, model_digest)
    return max((row.sequence for row in rows if (row.job, row.status, row.model_digest) == of_model), default=0)


def read_manifests(pipeline: Pipeline, storage_options: StorageOptions = None) -> list[Manifest]:
    """Return `recent_manifests`. Raises TableError if the pipeline has not run yet."""
    manifests = recent_manifests(pipeline, storage_options)
    if not manifests:
        raise TableError(f"{_path(pipeline)}: pipeline {pipeline.name!r} has not run yet; run it first")
    return manifests


def select_run(recent: Sequence[Manifest], run_id: str | None) -> tuple[list[Manifest], list[Manifest]]:
    """Return the last manifest of each job of a run (None: the latest run), and the earlier successes, oldest first.

    `recent` is the result of `read_manifests`. A shadow run is none of the run's jobs, though it has the run's id: the
    pipeline does not depend on it. Raises TableError if there is no such run.
    """
    recent = [manifest for manifest in recent if manifest.job != SHADOW]
    run_id = run_id or recent[0].run_id
    jobs: dict[str, Manifest] = {}
    for manifest in recent:
        job = manifest.job
        if manifest.run_id == run_id and (job not in jobs or jobs[job].sequence < manifest.sequence):
            jobs[job] = manifest
    if not jobs:
        latest = ", ".join(dict.fromkeys(manifest.run_id for manifest in recent[:_LISTED_ROWS]))
        raise TableError(f"there is no run {run_id!r} among the recent ones; the latest are {latest}")
    run = sorted(jobs.values(), key=lambda manifest: manifest.started_at)
    earlier = [
        manifest
        for manifest in recent
        if manifest.run_id != run_id and manifest.status == SUCCEEDED and manifest.started_at < run[0].started_at
    ]
    return run, earlier[::-1]


def _path(pipeline: Pipeline) -> str:
    return table_path(pipeline.tables, "runs")
