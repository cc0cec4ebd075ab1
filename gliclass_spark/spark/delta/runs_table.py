"""The `runs` table: claims and results of a pipeline's jobs.

Rows are only appended: one with status "running" when a job claims its sequence number, one when it
ends. Delta's transaction ids make sure that no two runs of a job have the same number.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime

from pyspark.sql import DataFrame, Row, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know
from pyspark.sql.types import (
    ArrayType,
    BooleanType,
    DataType,
    DoubleType,
    LongType,
    MapType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from gliclass_spark.config.output import Output
from gliclass_spark.errors import ConflictError, SupersededError, TableError
from gliclass_spark.runs.delta_reader import delta_table
from gliclass_spark.runs.history import RECENT_ROWS, claimed_destinations, recent_rows, used_label_sets
from gliclass_spark.runs.manifest import RUNNING, Manifest
from gliclass_spark.runs.manifest_writer import append_manifests, transaction
from gliclass_spark.spark.delta.column_names import helper
from gliclass_spark.spark.delta.commits import retry_conflicts
from gliclass_spark.spark.delta.local_rows import local_rows
from gliclass_spark.spark.delta.schema import TableSpec
from gliclass_spark.spark.delta.table_creation import ensure
from gliclass_spark.spark.delta.table_ref import TableRef

_CLAIM_ATTEMPTS = 20
_RANK = helper("rank")


def _fields(kind: DataType, names: str) -> list[StructField]:
    return [StructField(name, kind) for name in names.split()]


def _map(value: DataType) -> MapType:
    return MapType(StringType(), value)


_RANGE = StructType([*_fields(StringType(), "table_id"), *_fields(LongType(), "since until")])
RUNS = StructType(
    [
        *_fields(StringType(), "run_id pipeline job status message"),
        *_fields(LongType(), "sequence"),
        *_fields(TimestampType(), "started_at finished_at"),
        *_fields(DoubleType(), "seconds"),
        *_fields(BooleanType(), "full_scan"),
        *_fields(LongType(), "rows_in documents tagged retagged tombstoned kept quarantined waiting routed_documents"),
        *_fields(_map(LongType()), "rejected routed errors label_counts table_rows"),
        *_fields(_map(ArrayType(LongType())), "score_histograms"),
        *_fields(_map(DoubleType()), "step_seconds"),
        *_fields(LongType(), "tokens"),
        *_fields(DoubleType(), "texts_per_s tokens_per_s padding_share"),
        *_fields(LongType(), "model_loads"),
        *_fields(_map(_RANGE), "inputs outputs"),
        *_fields(_map(StringType()), "commits"),
        *_fields(
            StringType(), "source model model_digest label_set label_set_hash rules_hash settings_hash columns_hash"
        ),
    ]
)
# Every job appends two small files; Delta compacts those of Spark by itself.
_SPEC = TableSpec(RUNS, "A row for each start and end of a job", properties={"delta.autoOptimize.autoCompact": "true"})


@dataclass(frozen=True)
class Runs:
    """The rows of one pipeline in the table `runs`."""

    spark: SparkSession
    table: TableRef
    pipeline: str
    output: Output = field(default_factory=Output)

    def claim(self, manifest: Manifest, recent: list[Manifest]) -> tuple[Manifest, list[Manifest]]:
        """Append the manifest with the job's next sequence number: from then on no earlier run of it can finish.

        `recent` is the result of `recent()`. Return the claimed manifest, and the recent ones at the time of
        the claim, without it. Raises ConflictError if other runs keep taking the number.
        """
        if not self._is_complete():
            ensure(self.spark, self.table, _SPEC.of_pipeline(self.pipeline, self.output))
        for _ in range(_CLAIM_ATTEMPTS):
            newest = max((row.sequence for row in recent if row.job == manifest.job), default=0)
            claimed = replace(manifest, sequence=newest + 1, started_at=datetime.now(UTC))
            self._append(claimed)
            # Read again: Delta skipped the row if another run claimed that number first.
            recent = self.recent()
            own = [row for row in recent if _is_of_claim(row, claimed)]
            if own:
                return claimed, [row for row in recent if row not in own]
        raise ConflictError(
            f"{self.table.name}: could not claim the {manifest.job} job of pipeline {self.pipeline!r}: many runs of it "
            "start at once; start one at a time"
        )

    def check_current(self, manifest: Manifest) -> None:
        """Raise SupersededError if a later run claimed this job: Delta skips what this one commits from then on."""
        for row in self.recent():
            if row.job == manifest.job and row.sequence > manifest.sequence:
                raise _superseded(manifest, row)

    def finish(self, manifest: Manifest) -> None:
        """Append the manifest of a job that ended. Raises SupersededError if a later run claimed the job before."""
        if self._append(manifest):
            return
        rows = [row for row in self.recent() if row.job == manifest.job]
        if not any(_is_of_claim(row, manifest) and row.status == manifest.status for row in rows):
            raise _superseded(manifest, max(rows, key=lambda row: row.sequence))

    def recent(self) -> list[Manifest]:
        """Return the recent manifests of each job, latest first; of one run of a job, the end before the start."""
        with suppress(TableError):
            if (path := self.table.local_path(self.spark)) is not None:
                return recent_rows(path, self.pipeline)
        if not self.table.exists(self.spark):
            return []
        rank = F.row_number().over(Window.partitionBy("job").orderBy(F.desc("sequence"), F.col("status") == RUNNING))
        rows = self._all().withColumn(_RANK, rank).where(F.col(_RANK) <= RECENT_ROWS).drop(_RANK)
        return [manifest_of(row) for row in rows.orderBy(F.desc("started_at"), F.col("status") == RUNNING).collect()]

    def label_sets(self) -> set[str]:
        """Return the hash of every label set that a run of this pipeline has used."""
        with suppress(TableError):
            if (path := self.table.local_path(self.spark)) is not None:
                return used_label_sets(path, self.pipeline)
        if not self.table.exists(self.spark):
            return set()
        return {row["label_set_hash"] for row in self._all().select("label_set_hash").distinct().collect()}

    def destinations(self) -> set[str]:
        """Return every destination that any run of this pipeline has claimed to write."""
        with suppress(TableError):
            if (path := self.table.local_path(self.spark)) is not None:
                return claimed_destinations(path, self.pipeline)
        if not self.table.exists(self.spark):
            return set()
        names = self._rows_of_job("route").select(F.explode(F.map_keys("routed")).alias("name")).distinct()
        return {row["name"] for row in names.collect()}

    def _is_complete(self) -> bool:
        """Return whether delta-rs can tell that the table has every column, and there is no property to set."""
        if self.output.properties:
            return False
        with suppress(TableError):
            if (path := self.table.local_path(self.spark)) is not None:
                stored = StructType.fromJson(json.loads(delta_table(path).schema().to_json()))
                types = {column.name: column.dataType for column in stored if column.nullable}
                return all(types.get(column.name) == column.dataType for column in RUNS)
        return False

    def _all(self) -> DataFrame:
        return self.table.read(self.spark, None).where(F.col("pipeline") == self.pipeline)

    def _rows_of_job(self, job: str) -> DataFrame:
        return self._all().where(F.col("job") == job)

    def _append(self, manifest: Manifest) -> bool:
        """Append a row, unless a later one of the job is there: Delta skips it then. Return whether it was appended.

        delta-rs reports that. Spark doesn't, so that False says no more than that the rows have to be read.
        """
        is_claim = manifest.status == RUNNING
        with suppress(TableError):
            if (path := self.table.local_path(self.spark)) is not None:
                return append_manifests(path, [manifest], claim=is_claim)
        app_id, version = transaction(manifest, claim=is_claim)
        values = {**asdict(manifest), "seconds": manifest.seconds}
        row = local_rows(self.spark, [{name: values[name] for name in RUNS.names}], RUNS).coalesce(1)
        options = {"txnAppId": app_id, "txnVersion": version}
        retry_conflicts(lambda: self.table.append(row, **options), self.table.name)
        return False


def _is_of_claim(row: Manifest, claimed: Manifest) -> bool:
    names = ("job", "sequence", "run_id", "started_at")
    return all(getattr(row, name) == getattr(claimed, name) for name in names)


def _superseded(manifest: Manifest, later: Manifest) -> SupersededError:
    return SupersededError(
        f"run {manifest.run_id!r} of {manifest.job} was superseded by run {later.run_id!r}, which does all of "
        "its work; let that one finish, and start one run of a pipeline at a time"
    )


def manifest_of(row: Row) -> Manifest:
    """Return the manifest of a row of `runs`."""
    values = row.asDict(recursive=True)
    for name in ("started_at", "finished_at"):
        values[name] = values[name].astimezone(UTC)  # Spark's times are local, without a zone
    return Manifest.from_row(values)
