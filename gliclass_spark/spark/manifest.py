"""The manifest: one row of `runs` for each job run, with the counts that have to add up."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime

from pyspark.sql import SparkSession
from pyspark.sql.types import (
    DoubleType,
    LongType,
    MapType,
    StringType,
    StructField,
    StructType,
    TimestampType,
)

from gliclass_spark.errors import ManifestError

_COUNTS = MapType(StringType(), LongType())

RUNS = StructType(
    [
        *(StructField(name, StringType()) for name in ("run_id", "pipeline", "job", "status", "message")),
        *(StructField(name, TimestampType()) for name in ("started_at", "finished_at")),
        StructField("seconds", DoubleType()),
        *(StructField(name, LongType()) for name in ("rows_in", "tagged", "kept", "quarantined")),
        *(StructField(name, _COUNTS) for name in ("rejected", "routed", "errors")),
        *(StructField(name, DoubleType()) for name in ("texts_per_s", "tokens_per_s", "padding_share")),
        *(StructField(name, LongType()) for name in ("model_loads", "source_version")),
        *(StructField(name, StringType()) for name in ("source", "model", "model_digest")),
        *(StructField(name, StringType()) for name in ("label_set", "label_set_hash", "rules_hash")),
    ]
)


@dataclass(frozen=True)
class Manifest:
    """What one job of a run did. Fields that are not a job's business are None, or empty.

    rows_in: documents that the job saw. tagged: those that it sent through the model, of which
    `errors` counts the failed ones by code. kept, rejected (by reason), quarantined: what filtering
    made of rows_in. routed: by destination. source_version: the Delta version that was read.
    """

    run_id: str
    pipeline: str
    job: str
    status: str
    started_at: datetime
    finished_at: datetime
    rows_in: int
    source: str
    model: str
    model_digest: str | None
    label_set: str
    label_set_hash: str
    rules_hash: str
    message: str | None = None
    tagged: int | None = None
    kept: int | None = None
    quarantined: int | None = None
    rejected: dict[str, int] = field(default_factory=dict)
    routed: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    texts_per_s: float | None = None
    tokens_per_s: float | None = None
    padding_share: float | None = None
    model_loads: int | None = None
    source_version: int | None = None

    @property
    def seconds(self) -> float:
        return (self.finished_at - self.started_at).total_seconds()

    def check(self) -> None:
        """Raise ManifestError, with both sides, unless every row that came in came out exactly once."""
        if self.job == "filter":
            rejected = sum(self.rejected.values())
            self._same("kept + rejected + quarantined", self.kept or 0, rejected, self.quarantined or 0)
        if self.job == "route":
            self._same("routed", sum(self.routed.values()))

    def _same(self, what: str, *parts: int) -> None:
        if sum(parts) != self.rows_in:
            found = " + ".join(map(str, parts))
            raise ManifestError(
                f"run {self.run_id!r}, {self.job}: expected {what} = {self.rows_in} rows in, "
                f"found {found} = {sum(parts)}; run it again, and look for another writer of these tables"
            )


def record(spark: SparkSession, path: str, manifest: Manifest) -> None:
    """Append the row to `runs`; a row of the same run, job and status that is there already stays as it is."""
    values = {**asdict(manifest), "seconds": manifest.seconds}
    row = spark.createDataFrame([tuple(values[name] for name in RUNS.names)], RUNS)
    writer = row.coalesce(1).write.format("delta").mode("append")
    # Delta skips a transaction that it has seen: so a job that is run again after it was killed
    # between its last write and its end does not count twice.
    writer = writer.option("txnAppId", f"{manifest.run_id}/{manifest.job}/{manifest.status}").option("txnVersion", 1)
    writer.save(path)
