"""The `runs` table: who works on a pipeline, what the runs before did, and what this one did.

Rows are only ever appended: one with status "running" when a job claims its turn, one with its end.
A claim takes the next sequence number; Delta's transaction ids make sure that no two have the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from delta.tables import DeltaTable
from pyspark.sql import DataFrame, Row, SparkSession
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

from gliclass_spark.errors import ConflictError, SupersededError
from gliclass_spark.runs.manifest import RUNNING, SUCCEEDED, Manifest
from gliclass_spark.spark.delta.commits import conflicts_retried
from gliclass_spark.spark.delta.local_rows import local_rows
from gliclass_spark.spark.delta.tables import TableSpec, ensure

_CLAIMS = 20
# A run that builds on an older one than this looks at everything again instead.
_RECENT = 1000


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
        *_fields(_map(LongType()), "rejected routed errors label_counts"),
        *_fields(_map(ArrayType(LongType())), "score_histograms"),
        *_fields(_map(DoubleType()), "step_seconds"),
        *_fields(LongType(), "tokens"),
        *_fields(DoubleType(), "texts_per_s tokens_per_s padding_share"),
        *_fields(LongType(), "model_loads"),
        *_fields(_map(_RANGE), "inputs outputs"),
        *_fields(StringType(), "source model model_digest label_set label_set_hash rules_hash settings_hash"),
    ]
)
# Every job appends two small files: Delta joins them by itself.
_SPEC = TableSpec(RUNS, properties={"delta.autoOptimize.autoCompact": "true"})


@dataclass(frozen=True)
class Runs:
    """The `runs` table at `path`, as the jobs of one pipeline see it."""

    spark: SparkSession
    path: str
    pipeline: str

    def claim(self, wanted: Manifest, known: list[Manifest]) -> tuple[Manifest, list[Manifest]]:
        """Append `wanted` with the next sequence number. From now on no earlier run of this job can finish.

        `known` is what `recent` gave. Gives the row, and the rows as they are now, without it. Raises
        ConflictError if others keep taking the number.
        """
        ensure(self.spark, self.path, _SPEC)
        for _ in range(_CLAIMS):
            newest = max((each.sequence for each in known if each.job == wanted.job), default=0)
            mine = replace(wanted, sequence=newest + 1, started_at=datetime.now(UTC))
            self._append(mine, f"{self.pipeline}/{mine.job}", mine.sequence)
            # Read again: Delta left the row out if another claim of that number was there first.
            known = self.recent()
            own = [each for each in known if each.job == mine.job and each.started_at == mine.started_at]
            if any(each.sequence == mine.sequence for each in own):
                return mine, [each for each in known if each not in own]
        raise ConflictError(
            f"{self.path}: could not claim the {wanted.job} job of pipeline {self.pipeline!r}: many runs of it start "
            "at once; start one at a time"
        )

    def check_current(self, mine: Manifest) -> None:
        """Raise SupersededError if a later run claimed this job: Delta refuses what this one writes from then on."""
        later = self._of(mine.job).where(F.col("sequence") > mine.sequence).limit(1).collect()
        for row in later:
            raise SupersededError(
                f"run {mine.run_id!r} of {mine.job} was superseded by run {row['run_id']!r}, which does all of its "
                "work; let that one finish, and start one run of a pipeline at a time"
            )

    def finish(self, done: Manifest) -> None:
        """Append a job's end, unless the job was superseded: SupersededError then."""
        self.check_current(done)
        self._append(done, f"{self.pipeline}/{done.job}/end", done.sequence)

    def recent(self) -> list[Manifest]:
        """The latest rows of all jobs, the latest first; of one run of a job, the end before the start."""
        if not DeltaTable.isDeltaTable(self.spark, self.path):
            return []
        order = (F.desc("started_at"), F.col("status") == RUNNING)
        return [manifest_of(row) for row in self._all().orderBy(*order).limit(_RECENT).collect()]

    def destinations(self) -> set[str]:
        """Every destination that any run of this pipeline ever set out to write."""
        names = self._of("route").select(F.explode(F.map_keys("routed")).alias("name")).distinct()
        return {row["name"] for row in names.collect()}

    def _all(self) -> DataFrame:
        rows = self.spark.read.format("delta").load(self.path)
        return rows.where(F.col("pipeline") == self.pipeline)

    def _of(self, job: str) -> DataFrame:
        return self._all().where(F.col("job") == job)

    def _append(self, manifest: Manifest, app_id: str, version: int) -> None:
        values = {**asdict(manifest), "seconds": manifest.seconds}
        row = local_rows(self.spark, [{name: values[name] for name in RUNS.names}], RUNS).coalesce(1)
        writer = row.write.format("delta").mode("append").option("txnAppId", app_id).option("txnVersion", version)
        conflicts_retried(lambda: writer.save(self.path), self.path)


def last_success(manifests: Iterable[Manifest], job: str, **same: str) -> Manifest | None:
    """The latest success of a job, among those whose fields are the `same`."""
    wanted = {"job": job, "status": SUCCEEDED, **same}
    found = (each for each in manifests if all(getattr(each, name) == value for name, value in wanted.items()))
    return max(found, key=lambda each: each.sequence, default=None)


def to_build_on(manifests: Iterable[Manifest], job: str, settings_hash: str) -> Manifest | None:
    """The latest success of a job, if it had these settings. Behind one with others, the tables hold what those
    made of them: an older success is nothing to build on then.
    """
    last = last_success(manifests, job)
    return last if last is not None and last.settings_hash == settings_hash else None


def manifest_of(row: Row) -> Manifest:
    """The manifest that a row of `runs` holds."""
    values = row.asDict(recursive=True)
    for name in ("started_at", "finished_at"):
        values[name] = values[name].astimezone(UTC)  # Spark gives local times without a zone
    return Manifest.from_row(values)
