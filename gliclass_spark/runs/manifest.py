"""The manifest of a job: what it read, did and wrote, with the counts that must add up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from gliclass_spark.errors import ManifestError

RUNNING, SUCCEEDED, FAILED = "running", "succeeded", "failed"
HISTOGRAM_BINS = 20
# The job that tags with another model, beside the jobs of the pipeline.
SHADOW = "shadow"


@dataclass(frozen=True)
class VersionRange:
    """The versions of a Delta table that a job read: those after `since`, up to and including `until`.

    `since` None: from the first version on. `until` None: the table has no versions. `table_id` differs
    for a table that was created again at the same path.
    """

    table_id: str | None = None
    since: int | None = None
    until: int | None = None


@dataclass(frozen=True)
class Manifest:
    """One row of `runs`: one job of one run. Fields that do not apply to a job are None, or empty.

    sequence: the order of the runs of this job of this pipeline; a later one supersedes an earlier one.
    settings_hash: SHA-256 of all that the results depend on, apart from the data. full_scan: whether the job read every
    document, not only those that changed since the run before.
    rows_in: the documents that the job decided about. documents: all that its tables hold at the end.
    tagged: documents that the model scored; `retagged` of them had tags before, `errors` counts the
    failed ones by code. tombstoned: tags of documents that left the source. kept, rejected (by
    reason), quarantined: the filter's decisions about rows_in. waiting: documents without tags.
    routed: rows by destination; routed_documents: the documents in these rows.
    label_counts: tagged documents by label. score_histograms: for each label, how many scores are
    in each of HISTOGRAM_BINS equal parts of [0, 1].
    inputs: the versions read, by table. commits: the identity of the last version read, by table.
    outputs: the latest versions of the tables written. table_rows: the numbers of rows of the tables of decided
    documents at these versions. columns_hash: SHA-256 of the names and types of the documents' columns. Rows of 0.1
    lack commits, table_rows and columns_hash.
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
    columns_hash: str | None = None
    commits: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, VersionRange] = field(default_factory=dict)
    outputs: dict[str, VersionRange] = field(default_factory=dict)
    table_rows: dict[str, int] = field(default_factory=dict)

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Manifest:
        """Return the manifest of a row of `runs`, whose times have a zone."""
        values = {name: value for name, value in row.items() if name in cls.__dataclass_fields__}
        if values.get("full_scan") is None:
            values["full_scan"] = row["whole"]  # the column's name in rows written by 0.1
        for name in ("commits", "table_rows"):
            values[name] = values.get(name) or {}
        for name in ("inputs", "outputs"):
            values[name] = {table: VersionRange(**versions) for table, versions in values[name].items()}
        return cls(**values)

    @property
    def seconds(self) -> float:
        """The duration of the job."""
        return (self.finished_at - self.started_at).total_seconds()

    @property
    def scored(self) -> int:
        """The number of documents that a tag job scored."""
        return (self.tagged or 0) - sum(self.errors.values())

    def check(self) -> None:
        """Raise ManifestError, with both sides, unless every input row has exactly one outcome."""
        if self.job == "filter":
            rejected = sum(self.rejected.values())
            self._check_sum("kept + rejected + quarantined", self.kept or 0, rejected, self.quarantined or 0)
        if self.job == "route":
            self._check_sum("routed documents", self.routed_documents or 0)

    def _check_sum(self, terms: str, *counts: int) -> None:
        if sum(counts) != self.rows_in:
            total = " + ".join(map(str, counts))
            raise ManifestError(
                f"run {self.run_id!r}, {self.job}: expected {terms} = {self.rows_in} rows in, found {total} = "
                f"{sum(counts)}; another writer changed these tables: run {self.job} again with --full"
            )


def new_run_id() -> str:
    """Return a new run id: the time in UTC and four random hex digits."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid4().hex[:4]}"


def check_run(manifests: Sequence[Manifest], run_id: str, steps: Sequence[str]) -> None:
    """Raise ManifestError, with both sides, unless each of the steps of the run succeeded and its counts add up.

    `manifests` are the last ones of the run's jobs.
    """
    jobs = {manifest.job: manifest for manifest in manifests}
    for step in steps:
        if step not in jobs:
            raise ManifestError(f"run {run_id!r}: expected a manifest of {step}, found none; run {step} again")
        manifest = jobs[step]
        if manifest.status != SUCCEEDED:
            message = f" ({manifest.message})" if manifest.message else ""
            raise ManifestError(
                f"run {run_id!r}, {step}: expected status {SUCCEEDED!r}, found {manifest.status!r}{message}; "
                f"fix the cause, and run {step} again"
            )
        manifest.check()
