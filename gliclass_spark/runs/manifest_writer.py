"""Rows of `runs` appended by delta-rs, without Spark and Java."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import DeltaError

from gliclass_spark.errors import TableError
from gliclass_spark.runs.delta_reader import delta_table, first_reason
from gliclass_spark.runs.manifest import Manifest

logger = logging.getLogger(__name__)

# Spark compacts the small files of its own appends from the same number on.
_COMPACT_FROM_FILES = 50


def transaction(manifest: Manifest, *, claim: bool) -> tuple[str, int]:
    """Return the application id and the version of Delta's transaction that appends the manifest.

    claim: whether it claims the job's sequence number; else it ends a claimed job. Both versions grow with the
    sequence, so that no end follows a later claim.
    """
    return f"{manifest.pipeline}/{manifest.job}", 2 * manifest.sequence + (not claim)


def append_manifests(path: str, manifests: Sequence[Manifest], *, claim: bool) -> bool:
    """Append the manifests, each of another job, to the table `runs` in one commit; many small files are compacted.

    claim: see `transaction`. Return False, with nothing appended, if a row of one of the jobs is there that claimed
    the same number or a later one, or ended: Delta skips a transaction that is not newer. Raises TableError if
    delta-rs can't write the table.
    """
    table = delta_table(path)
    transactions = [transaction(manifest, claim=claim) for manifest in manifests]
    if _is_superseded(table, transactions):
        return False
    schema = pa.schema(table.schema().to_arrow())
    rows = [{**_with_pairs(asdict(manifest)), "seconds": manifest.seconds} for manifest in manifests]
    data = pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema)
    properties = CommitProperties(app_transactions=[Transaction(*each) for each in transactions])
    try:
        # Fails if another writer has committed one of the transactions since the table was opened.
        write_deltalake(table, data, mode="append", commit_properties=properties)
    except (DeltaError, OSError) as error:
        if _is_superseded(delta_table(path), transactions):
            return False
        raise TableError(f"{path} can't be written without Spark: {first_reason(error)}") from None
    _compact(table)
    return True


def _is_superseded(table: DeltaTable, transactions: Sequence[tuple[str, int]]) -> bool:
    return any((table.transaction_version(app_id) or 0) >= version for app_id, version in transactions)


def _compact(table: DeltaTable) -> None:
    if len(table.file_uris()) < _COMPACT_FROM_FILES:
        return
    try:
        table.optimize.compact()
    except (DeltaError, OSError) as error:  # as when another process compacts them; the next append tries again
        logger.info("%s was not compacted: %s", table.table_uri, first_reason(error))


def _with_pairs(values: Mapping[str, object]) -> dict[str, object]:
    """Return the values with each mapping as the list of pairs that Arrow expects."""
    return {name: list(value.items()) if isinstance(value, Mapping) else value for name, value in values.items()}
