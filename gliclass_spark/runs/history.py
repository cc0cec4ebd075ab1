"""What the runs of a pipeline left behind, read without Spark: their manifests, and some of their documents."""

from __future__ import annotations

from collections.abc import Sequence

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.errors import TableError
from gliclass_spark.runs.delta_reader import StorageOptions, delta_table, query
from gliclass_spark.runs.manifest import RUNNING, SUCCEEDED, Manifest

# Rows of `runs`: two for each job of a run. Those before are history that nobody compares with.
_RECENT = 1000


def manifests(pipeline: Pipeline, storage_options: StorageOptions = None) -> list[Manifest]:
    """The latest rows of all jobs, the latest first; of one run of a job, the end before the start.

    Raises TableError if the pipeline has not run yet.
    """
    path = f"{pipeline.tables.rstrip('/')}/runs"
    rows = query(
        delta_table(path, storage_options=storage_options),
        f"select * from t where pipeline = '{pipeline.name}' "  # noqa: S608 - a name of a-z, 0-9, _ and -
        f"order by started_at desc, status = '{RUNNING}' limit {_RECENT}",
    )
    if not rows:
        raise TableError(f"{path}: pipeline {pipeline.name!r} has not run yet; run it first")
    return [Manifest.from_row(row) for row in rows]


def of_run(found: Sequence[Manifest], run_id: str | None) -> tuple[list[Manifest], list[Manifest]]:
    """The jobs of a run (None: the latest) as they ended or stand, and the successes before it, oldest first.

    `found` is what `manifests` gave. Raises TableError if there is no such run.
    """
    wanted = run_id or found[0].run_id
    jobs: dict[str, Manifest] = {}
    for each in found:
        if each.run_id == wanted and (each.job not in jobs or jobs[each.job].sequence < each.sequence):
            jobs[each.job] = each
    if not jobs:
        known = ", ".join(dict.fromkeys(each.run_id for each in found[:9]))
        raise TableError(f"there is no run {wanted!r} among the last ones; the latest are {known}")
    mine = sorted(jobs.values(), key=lambda each: each.started_at)
    others = (each for each in found if each.run_id != wanted and each.status == SUCCEEDED)
    before = [each for each in others if each.started_at < mine[0].started_at]
    return mine, before[::-1]
