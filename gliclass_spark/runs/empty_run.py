"""Runs with nothing to do, detected and recorded without Spark and Java, in a second or two."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from deltalake import DeltaTable

from gliclass_spark.config.catalog import folder_of
from gliclass_spark.config.output import Output
from gliclass_spark.config.paths import has_scheme
from gliclass_spark.config.pipeline import Pipeline, Retag, Step
from gliclass_spark.errors import TableError
from gliclass_spark.runs.delta_reader import commit_id, delta_table
from gliclass_spark.runs.freshness import up_to_date
from gliclass_spark.runs.history import recent_manifests
from gliclass_spark.runs.manifest import Manifest, VersionRange
from gliclass_spark.runs.manifest_writer import append_manifests

logger = logging.getLogger(__name__)


def finish_empty_run(
    pipeline: Pipeline, steps: Sequence[Step], run_id: str, model_digest: str, retag: Retag
) -> list[Manifest] | None:
    """Record the steps of a run as done if they would change nothing, and return their manifests; else return None.

    Steps that this run has finished before are not recorded again. None, too, where only Spark can check: for
    sources and tables that are not Delta tables on a local disk, and for rules that use the date of the run.
    """
    source, folder = pipeline.source, folder_of(pipeline.tables)
    if (
        pipeline.rules.uses_run_date
        or source.path is None
        or source.format != "delta"
        or has_scheme(source.path)
        or folder is None
        or has_scheme(folder)
    ):
        return None

    def is_latest(name: str, versions: VersionRange, commit: str | None) -> bool:
        path = str(source.path) if name == "source" else f"{folder}/{name}"
        table = delta_table(path)
        if table.version() != versions.until or (name != "source" and not _has_properties(table, pipeline.output)):
            return False
        if commit is None:
            return versions.table_id == str(table.metadata().id)
        return commit_id(path, table.version()) == commit

    started = datetime.now(UTC)
    try:
        manifests = recent_manifests(pipeline)
        last = up_to_date(pipeline, steps, manifests, model_digest, retag, is_latest)
    except TableError as error:  # the run says it, or can do more than delta-rs
        logger.info("whether there is anything to do is left to Spark: %s", error)
        return None
    if last is None:
        return None
    if all(manifest.run_id == run_id for manifest in last.values()):
        return list(last.values())
    empty = [_empty(manifest, run_id, started) for manifest in last.values()]
    try:
        is_claimed = append_manifests(f"{folder}/runs", empty, claim=True)
    except TableError as error:
        logger.info("the empty run is left to Spark: %s", error)
        return None
    return empty if is_claimed else None


def _has_properties(table: DeltaTable, output: Output) -> bool:
    current = {name.lower(): value for name, value in table.metadata().configuration.items()}
    return all(current.get(name.lower()) == value for name, value in output.properties.items())


def _empty(last: Manifest, run_id: str, started: datetime) -> Manifest:
    """Return the manifest of a job that changed nothing since the success `last`."""
    return replace(
        last,
        run_id=run_id,
        sequence=last.sequence + 1,
        started_at=started,
        finished_at=datetime.now(UTC),
        message=f"nothing to do since run {last.run_id}",
        full_scan=False,
        rows_in=0,
        tagged=_zero(last.tagged),
        retagged=_zero(last.retagged),
        tombstoned=_zero(last.tombstoned),
        kept=_zero(last.kept),
        quarantined=_zero(last.quarantined),
        waiting=_zero(last.waiting),
        routed_documents=_zero(last.routed_documents),
        rejected={},
        routed=dict.fromkeys(last.routed, 0),
        errors={},
        label_counts={},
        score_histograms={},
        step_seconds={},
        tokens=None,
        texts_per_s=None,
        tokens_per_s=None,
        padding_share=None,
        model_loads=_zero(last.model_loads),
        inputs={name: replace(versions, since=versions.until) for name, versions in last.inputs.items()},
    )


def _zero(count: int | None) -> int | None:
    """Return 0 for a count that the job has."""
    return None if count is None else 0
