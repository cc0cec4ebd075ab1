"""Facts of a run report: the run's manifests by job, the runs before it, and sample documents."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from gliclass_spark.errors import ManifestError
from gliclass_spark.report.run.drift import REFERENCE_RUNS, Drift, measure_drift
from gliclass_spark.runs.manifest import Manifest
from gliclass_spark.runs.outcomes import Sample

_JOBS = ("tag", "filter", "route")


@dataclass(frozen=True)
class ReportedRun:
    """The latest manifest of each job of one run, by job, in the order of the pipeline."""

    run_id: str
    jobs: dict[str, Manifest]

    @classmethod
    def from_manifests(cls, manifests: Iterable[Manifest]) -> ReportedRun:
        """Group the manifests of one run by job. Raises ManifestError if there are none."""
        by_job = {manifest.job: manifest for manifest in manifests}
        if not by_job:
            raise ManifestError("a report needs the manifest of one job at least, found none; check the run's id")
        order = sorted(by_job, key=lambda job: _JOBS.index(job) if job in _JOBS else len(_JOBS))
        return cls(by_job[order[0]].run_id, {job: by_job[job] for job in order})

    @property
    def tag(self) -> Manifest | None:
        return self.jobs.get("tag")

    @property
    def filter(self) -> Manifest | None:
        return self.jobs.get("filter")

    @property
    def route(self) -> Manifest | None:
        return self.jobs.get("route")

    @property
    def first(self) -> Manifest:
        """The manifest of the first job, for the fields that all jobs share."""
        return next(iter(self.jobs.values()))

    @property
    def started_at(self) -> datetime:
        return min(manifest.started_at for manifest in self.jobs.values())

    @property
    def seconds(self) -> float:
        """The sum of the jobs' durations, without the time between them."""
        return sum(manifest.seconds for manifest in self.jobs.values())

    @property
    def texts_per_s(self) -> float | None:
        return self.tag.texts_per_s if self.tag is not None and self.tag.tagged else None

    def rejected_share(self, reason: str | None = None) -> float | None:
        """Return the share of documents rejected, for one reason or for any; None if the filter saw no document."""
        if self.filter is None or not self.filter.rows_in:
            return None
        rejected = self.filter.rejected
        return (sum(rejected.values()) if reason is None else rejected.get(reason, 0)) / self.filter.rows_in


@dataclass(frozen=True)
class RunFacts:
    """A run, the runs before it (oldest first), and sample documents."""

    run: ReportedRun
    earlier: Sequence[ReportedRun]
    samples: Sequence[Sample]

    @classmethod
    def from_manifests(
        cls, manifests: Sequence[Manifest], history: Sequence[Manifest], samples: Sequence[Sample]
    ) -> RunFacts:
        run = ReportedRun.from_manifests(manifests)
        by_run: dict[str, list[Manifest]] = {}
        for manifest in history:
            if manifest.run_id != run.run_id:
                by_run.setdefault(manifest.run_id, []).append(manifest)
        return cls(run, [ReportedRun.from_manifests(of_run) for of_run in by_run.values()], samples)

    @property
    def recent(self) -> list[ReportedRun]:
        """The runs that the page compares: the last REFERENCE_RUNS and this one, which comes last."""
        return [*self.earlier[-REFERENCE_RUNS:], self.run]

    @cached_property
    def drift(self) -> Drift | None:
        """None for a run without a tag job."""
        if self.run.tag is None:
            return None
        return measure_drift(self.run.tag, [earlier.tag for earlier in self.earlier if earlier.tag is not None])

    def link(self, kind: str, name: str = "") -> str | None:
        """Return the page's anchor of the samples of an outcome, None if it has none.

        Without a name: the anchor of all outcomes of the kind.
        """
        for sample in self.samples:
            if sample.outcome.kind == kind and (not name or sample.outcome.name == name):
                return f"#{sample.outcome.anchor}" if name else f"#all-{kind}"
        return None
