"""The manifest: what one job of a run read, did and wrote, with the counts that have to add up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from gliclass_spark.errors import ManifestError

RUNNING, SUCCEEDED, FAILED = "running", "succeeded", "failed"
HISTOGRAM_BINS = 20


@dataclass(frozen=True)
class VersionRange:
    """The versions of a Delta table that a job read: those after `since`, up to and with `until`.

    `since` None: all that the table held. `until` None: the table has no versions. `table_id` tells a
    table from another one that was later put in its place.
    """

    table_id: str | None = None
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True)
class Manifest:
    """One row of `runs`: one job of one run. Fields that are not a job's business are None, or empty.

    sequence: the order of the runs of this job of this pipeline; a later one supersedes an earlier one.
    settings_hash: SHA-256 of all but the data that the outcome depends on. full_scan: whether the job read every
    document, not only those that changed since the run before.
    rows_in: the documents that the job decided about. documents: all that its tables hold at the end.
    tagged: those that went through the model; `retagged` of them had tags before, `errors` counts the
    failed ones by code. tombstoned: tags of documents that left the source. kept, rejected (by
    reason), quarantined: what filtering made of rows_in. waiting: documents that are not tagged yet.
    routed: rows by destination; routed_documents: the documents behind them.
    label_counts: tagged documents by label. score_histograms: for each label, how many scores fell
    into each of HISTOGRAM_BINS equal parts of [0, 1].
    inputs: what was read, by table. outputs: the tables as the job left them.
    """

    run_id: str
    pipeline: str
    job: str
    status: str
    sequence: int
    started_at: datetime
    finished_at: datetime
    source: str
    label_set: str
    label_set_hash: str
    rules_hash: str
    settings_hash: str
    model: str
    model_digest: str | None = None
    message: str | None = None
    full_scan: bool = True
    rows_in: int = 0
    documents: int | None = None
    tagged: int | None = None
    retagged: int | None = None
    tombstoned: int | None = None
    kept: int | None = None
    quarantined: int | None = None
    waiting: int | None = None
    routed_documents: int | None = None
    rejected: dict[str, int] = field(default_factory=dict)
    routed: dict[str, int] = field(default_factory=dict)
    errors: dict[str, int] = field(default_factory=dict)
    label_counts: dict[str, int] = field(default_factory=dict)
    score_histograms: dict[str, list[int]] = field(default_factory=dict)
    step_seconds: dict[str, float] = field(default_factory=dict)
    tokens: int | None = None
    texts_per_s: float | None = None
    tokens_per_s: float | None = None
    padding_share: float | None = None
    model_loads: int | None = None
    inputs: dict[str, VersionRange] = field(default_factory=dict)
    outputs: dict[str, VersionRange] = field(default_factory=dict)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Manifest:
        """The manifest that a row of `runs` holds, whose times have a zone."""
        values = {name: value for name, value in row.items() if name in cls.__dataclass_fields__}
        if values.get("full_scan") is None:
            values["full_scan"] = row["whole"]  # the column's name in rows written by 0.1
        for name in ("inputs", "outputs"):
            values[name] = {table: VersionRange(**part) for table, part in values[name].items()}
        return cls(**values)

    @property
    def seconds(self) -> float:
        return (self.finished_at - self.started_at).total_seconds()

    def check(self) -> None:
        """Raise ManifestError, with both sides, unless every row that came in came out exactly once."""
        if self.job == "filter":
            rejected = sum(self.rejected.values())
            self._same("kept + rejected + quarantined", self.kept or 0, rejected, self.quarantined or 0)
        if self.job == "route":
            self._same("routed documents", self.routed_documents or 0)

    def _same(self, what: str, *parts: int) -> None:
        if sum(parts) != self.rows_in:
            found = " + ".join(map(str, parts))
            raise ManifestError(
                f"run {self.run_id!r}, {self.job}: expected {what} = {self.rows_in} rows in, found {found} = "
                f"{sum(parts)}; another writer changed these tables: run {self.job} again with --full"
            )


def check_run(manifests: Sequence[Manifest], run_id: str, steps: Sequence[str]) -> None:
    """Raise ManifestError, with both sides, unless each of the steps of the run succeeded and its counts add up.

    `manifests` are those of the run's jobs as they ended or stand.
    """
    jobs = {manifest.job: manifest for manifest in manifests}
    for step in steps:
        if step not in jobs:
            raise ManifestError(f"run {run_id!r}: expected a manifest of {step}, found none; run {step} again")
        found = jobs[step]
        if found.status != SUCCEEDED:
            why = f" ({found.message})" if found.message else ""
            raise ManifestError(
                f"run {run_id!r}, {step}: expected status {SUCCEEDED!r}, found {found.status!r}{why}; "
                f"mend that, and run {step} again"
            )
        found.check()
