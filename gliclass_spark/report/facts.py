"""What a page is made of: the manifests of a run, sorted out, and those of the runs before."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from gliclass_spark.errors import ManifestError
from gliclass_spark.report.drift import REFERENCE_RUNS, Drift, measure
from gliclass_spark.runs.manifest import Manifest
from gliclass_spark.runs.outcomes import Sample

_JOBS = ("tag", "filter", "route")


@dataclass(frozen=True)
class ReportedRun:
    """The jobs of one run, by name, in the order of the pipeline; of each the manifest that was written last."""

    run_id: str
    jobs: dict[str, Manifest]

    @classmethod
    def of(cls, manifests: Iterable[Manifest]) -> ReportedRun:
        """Raises ManifestError if there are none."""
        found = {manifest.job: manifest for manifest in manifests}
        if not found:
            raise ManifestError("a report needs the manifest of one job at least, found none; check the run's id")
        order = sorted(found, key=lambda job: _JOBS.index(job) if job in _JOBS else len(_JOBS))
        return cls(found[order[0]].run_id, {job: found[job] for job in order})

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
        """Any job's manifest, for what they all say."""
        return next(iter(self.jobs.values()))

    @property
    def started_at(self) -> datetime:
        return min(manifest.started_at for manifest in self.jobs.values())

    @property
    def seconds(self) -> float:
        """The time that its jobs took; the time between them is not counted."""
        return sum(manifest.seconds for manifest in self.jobs.values())

    @property
    def texts_per_s(self) -> float | None:
        return self.tag.texts_per_s if self.tag is not None and self.tag.tagged else None

    def rejected_share(self, reason: str | None = None) -> float | None:
        """The share of documents rejected, for one reason or for any; None if no document was decided about."""
        if self.filter is None or not self.filter.rows_in:
            return None
        rejected = self.filter.rejected
        return (sum(rejected.values()) if reason is None else rejected.get(reason, 0)) / self.filter.rows_in


@dataclass(frozen=True)
class Facts:
    """A run, the runs before it (oldest first), and documents of its to look at."""

    run: ReportedRun
    earlier: Sequence[ReportedRun]
    samples: Sequence[Sample]

    @classmethod
    def of(cls, manifests: Sequence[Manifest], history: Sequence[Manifest], samples: Sequence[Sample]) -> Facts:
        run = ReportedRun.of(manifests)
        by_run: dict[str, list[Manifest]] = {}
        for manifest in history:
            if manifest.run_id != run.run_id:
                by_run.setdefault(manifest.run_id, []).append(manifest)
        return cls(run, [ReportedRun.of(found) for found in by_run.values()], samples)

    @property
    def shown(self) -> list[ReportedRun]:
        """The runs that stand beside each other on the page: the last ones and this one, which is last."""
        return [*self.earlier[-REFERENCE_RUNS:], self.run]

    @cached_property
    def drift(self) -> Drift | None:
        """None for a run that did not tag."""
        if self.run.tag is None:
            return None
        return measure(self.run.tag, [earlier.tag for earlier in self.earlier if earlier.tag is not None])

    def link(self, kind: str, name: str = "") -> str | None:
        """Where the page shows documents that came to this end; None if it shows none.

        Without a name: where it shows documents of that kind, whatever their names.
        """
        for sample in self.samples:
            if sample.outcome.kind == kind and (not name or sample.outcome.name == name):
                return f"#{sample.outcome.anchor}" if name else f"#all-{kind}"
        return None
