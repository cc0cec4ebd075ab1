"""Run report: the manifests and sample documents of a run, read without Spark and rendered as one HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.errors import TableError
from gliclass_spark.labels import LabelSet
from gliclass_spark.report.drawing import Drawing
from gliclass_spark.report.run import drift, figures, flow
from gliclass_spark.report.run.facts import RunFacts
from gliclass_spark.report.run.notices import headline, notices, summary
from gliclass_spark.report.shadow_page import difference_chart
from gliclass_spark.report.template import fill
from gliclass_spark.runs.delta_reader import StorageOptions, delta_table, query
from gliclass_spark.runs.due.retraining_due import RetrainingDue, retraining_due
from gliclass_spark.runs.history import read_manifests, select_run
from gliclass_spark.runs.manifest import Manifest
from gliclass_spark.runs.outcomes import KINDS, MAX_LISTED_DOCUMENTS, SAMPLES, Outcome, Sample, SampleDocument, outcomes
from gliclass_spark.runs.shadow_comparison import ShadowComparison, read_comparison

_EXCERPT_CHARS = 280
_LABELS_SHOWN = 8


@dataclass(frozen=True)
class RunReport:
    """The HTML report of a run, its manifests, and its warnings, a line each."""

    manifests: Sequence[Manifest]
    html: str
    warnings: Sequence[str]


def run_report(pipeline: Pipeline, run_id: str | None, storage_options: StorageOptions = None) -> RunReport:
    """Return the report of a run (None: the latest). Raises TableError if there is no such run."""
    manifests, history = select_run(read_manifests(pipeline, storage_options), run_id)
    samples = [
        Sample(outcome, _sample_documents(outcome, pipeline, storage_options))
        for outcome in outcomes(manifests, pipeline.tables)
    ]
    due = retraining_due(pipeline, [*history, *manifests], storage_options)
    shadow = read_comparison(pipeline, manifests[0].run_id, storage_options)
    html = render(manifests, history, samples, label_set=pipeline.label_set, due=due, shadow=shadow)
    return RunReport(manifests, html, warnings(manifests, history, due))


def render(
    manifests: Sequence[Manifest],
    history: Sequence[Manifest],
    samples: Sequence[Sample] = (),
    *,
    label_set: LabelSet | None = None,
    due: RetrainingDue | None = None,
    shadow: ShadowComparison | None = None,
) -> str:
    """Return the HTML page of a run. It has no script and fetches nothing; the same arguments give the same page.

    manifests: this run's, of any jobs with any status; the last one of each job counts. history: those of earlier
    successful runs of the pipeline, oldest first. samples: sample documents of each of `outcomes`. label_set: its
    thresholds are drawn if it is the label set of the run's tags. due: whether a retraining is due, None where nothing
    retrains the model. shadow: the comparison of a shadow run with this run.

    Raises ManifestError without manifests.
    """
    facts, drawing = RunFacts.from_manifests(manifests, history, samples), Drawing()
    return fill(
        "run.html.j2",
        facts=facts,
        run=facts.run,
        headline=headline(facts.run),
        summary=summary(facts.run),
        notices=notices(facts, due),
        due=due,
        shadow=shadow,
        shadow_chart=difference_chart(shadow, drawing) if shadow is not None else None,
        rows=flow.rows(facts),
        flows=figures.flows(facts, drawing),
        rejected=figures.rejected(facts, drawing),
        rejected_by_run=figures.rejected_by_run(facts, drawing),
        labels=figures.label_rows(facts, label_set, drawing),
        speed_by_run=figures.speed_by_run(facts, drawing),
        steps=figures.steps(facts, drawing),
        samples_by_kind={
            kind: of_kind for kind in KINDS if (of_kind := [s for s in samples if s.outcome.kind == kind])
        },
        drift=facts.drift,
        levels=drift.Level,
        limits=drift,
        excerpt=_excerpt,
        labels_shown=_LABELS_SHOWN,
        most_listed=MAX_LISTED_DOCUMENTS,
    )


def warnings(manifests: Sequence[Manifest], history: Sequence[Manifest], due: RetrainingDue | None = None) -> list[str]:
    """Return the warnings on the page of these manifests, a line each, most severe first."""
    facts = RunFacts.from_manifests(manifests, history, ())
    return [f"{notice.name}: {notice.text}" for notice in notices(facts, due) if notice.severity != "note"]


def _sample_documents(outcome: Outcome, pipeline: Pipeline, storage_options: StorageOptions) -> list[SampleDocument]:
    """Return up to SAMPLES documents of the outcome, always the same ones."""
    text_column = pipeline.source.text
    return [SampleDocument.of(row, text_column) for row in _rows(outcome, storage_options)]


def _rows(outcome: Outcome, storage_options: StorageOptions) -> list[dict[str, Any]]:
    conditions = " and ".join(f"{column} = {_literal(value)}" for column, value in outcome.values.items())
    where = f"where {conditions}" if conditions else ""
    sql = f"select * from t {where} order by content_hash, doc_id limit {SAMPLES}"  # noqa: S608 - values are quoted
    try:
        return query(delta_table(outcome.path, outcome.version, storage_options), sql)
    except TableError:  # the version was vacuumed: fall back to the latest one
        return query(delta_table(outcome.path, storage_options=storage_options), sql)


def _literal(text: str) -> str:
    """Return a string literal of standard SQL."""
    return "'" + text.replace("'", "''") + "'"


def _excerpt(text: str) -> str:
    """Return the beginning of a text, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= _EXCERPT_CHARS else f"{line[: _EXCERPT_CHARS - 1]}…"
