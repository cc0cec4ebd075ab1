"""Whether the jobs of a pipeline would change anything: their last successes against settings and tables."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import date

from gliclass_spark.config.pipeline import Pipeline, Retag, Step
from gliclass_spark.runs.manifest import SUCCEEDED, Manifest, VersionRange
from gliclass_spark.runs.settings import filter_settings, route_settings, tag_settings

# Returns whether these are the latest versions of a table ("source", or a table of the pipeline); the commit is the
# identity of the last one, None if it was not recorded.
IsLatest = Callable[[str, VersionRange, str | None], bool]


def last_success(manifests: Iterable[Manifest], job: str, **fields: str) -> Manifest | None:
    """Return the latest success of a job whose fields equal `fields`; None if there is none."""
    required = {"job": job, "status": SUCCEEDED, **fields}
    matching = (row for row in manifests if all(getattr(row, name) == value for name, value in required.items()))
    return max(matching, key=lambda row: row.sequence, default=None)


def incremental_base(manifests: Iterable[Manifest], job: str, settings_hash: str) -> Manifest | None:
    """Return the latest success of a job if it, and every later claim, had these settings, else None.

    The tables hold the results of the latest success; a later run that did not succeed may have written, too.
    """
    rows = [row for row in manifests if row.job == job]
    last = last_success(rows, job)
    since = [row for row in rows if last is not None and row.sequence >= last.sequence]
    return last if all(row.settings_hash == settings_hash for row in since) else None


def up_to_date(
    pipeline: Pipeline,
    steps: Sequence[Step],
    manifests: Sequence[Manifest],
    model_digest: str,
    retag: Retag,
    is_latest: IsLatest,
    run_date: date | None = None,
) -> dict[Step, Manifest] | None:
    """Return the last success of each of the steps if none of them would change anything, else None.

    manifests: those of the recent runs. run_date: for rules that use it. Tables that others wrote since the
    last run are not up to date: a run checks their counts.
    """
    settings = {
        "tag": tag_settings(pipeline, model_digest, retag),
        "filter": filter_settings(pipeline, run_date),
        "route": route_settings(pipeline, run_date),
    }
    last: dict[Step, Manifest] = {}
    for step in steps:
        base = incremental_base(manifests, step, settings[step])
        if base is None or base.sequence != max(row.sequence for row in manifests if row.job == step):
            return None
        if not all(is_latest(name, versions, None) for name, versions in base.outputs.items()):
            return None
        last[step] = base
    tagged = last_success(manifests, "tag")
    filtered = last_success(manifests, "filter")
    if "tag" in last and not is_latest("source", last["tag"].inputs["source"], last["tag"].commits.get("source")):
        return None
    if "filter" in last and not (
        _has_followed(last["filter"], tagged, "tags") and _source_read(last["filter"]) == _source_read(tagged)
    ):
        return None
    return None if "route" in last and not _has_followed(last["route"], filtered, "kept") else last


def _has_followed(job: Manifest, upstream: Manifest | None, table: str) -> bool:
    """Return whether a job has read all that the upstream job wrote to the table."""
    return upstream is not None and job.inputs[table].until == upstream.outputs[table].until


def _source_read(job: Manifest | None) -> tuple[int | None, str | None] | None:
    """Return the version of the source that a job read, and its commit: numbers repeat if the source is put back."""
    return (job.inputs["source"].until, job.commits.get("source")) if job is not None else None
