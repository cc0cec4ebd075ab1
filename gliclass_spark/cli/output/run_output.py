"""Results of a run: a table of counts, sample documents, one line per run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from gliclass_spark.cli.output.result_table import ResultTable
from gliclass_spark.config.catalog import place_of
from gliclass_spark.runs.unlabelled import MOST, unlabelled_share

if TYPE_CHECKING:
    from gliclass_spark.runs.due.retraining_due import RetrainingDue
    from gliclass_spark.runs.manifest import Manifest
    from gliclass_spark.spark.jobs import PipelineRun

_UNLABELLED = """\
{share} or more of the tagged documents got no label. If you expect more:
- gliclass-spark report PIPELINE.yaml: each label's scores beside its threshold
- gliclass-spark calibrate --help: fit the thresholds to labelled texts
- top_k: 1 and threshold: 0 in the label set: each text's best label, whatever
  its score; in Python gliclass_udf(labels, threshold=0, output="best")"""
_SAMPLES = 6
_SAMPLE_CHARS = 34
_SAMPLE_ID_CHARS = 16


def show_run(console: Console, run: PipelineRun, manifests: Sequence[Manifest]) -> None:
    """Print the counts of every step, some documents with their labels, the speed, and a query to start from.

    Where most documents got no label, also what to do about it.
    """
    by_job = {manifest.job: manifest for manifest in manifests}
    run_table(run, by_job).print(console)
    if "filter" in by_job:
        samples = _samples(run)
        if samples.row_count:
            samples.print(console)
    _print_speed(console, by_job["tag"])
    show_unlabelled(console, manifests)
    decision_tables = {"filter": "kept, rejected, quarantined, ", "route": "one for each route, "}
    tables = "".join(names for job, names in decision_tables.items() if job in by_job)
    console.print(f"Tables: {place_of(run.lake.root)} (tags, {tables}runs)", soft_wrap=True)
    last_table = {"tag": "tags", "filter": "kept", "route": run.pipeline.rules.destinations[0]}[manifests[-1].job]
    console.print("Next, in PySpark:", style="dim")
    table = run.lake.table(last_table)
    rows = f'spark.table("{table.table}")' if table.table else f'spark.read.format("delta").load("{table.path}")'
    query = f'{rows}.select("doc_id", "labels", "scores").show()'
    console.print(f"  {query}", soft_wrap=True, highlight=False)


def run_document(manifests: Sequence[Manifest], due: RetrainingDue | None = None) -> dict[str, Any]:
    """Return a run's manifests as JSON, in the order of its steps; see the table `runs`.

    due: whether a retraining is due, None where nothing retrains the model.
    """
    first = manifests[0]
    return {
        "run_id": first.run_id,
        "pipeline": first.pipeline,
        "steps": [asdict(manifest) for manifest in manifests],
        "retraining": asdict(due) if due is not None else None,
    }


def show_unlabelled(console: Console, manifests: Sequence[Manifest]) -> None:
    """Print what to do if most of a run's documents got no label; nothing otherwise."""
    share = max((unlabelled_share(manifest) for manifest in manifests if manifest.job == "tag"), default=0.0)
    if share > MOST:
        console.print(_UNLABELLED.format(share=f"{share:.0%}"), markup=False, highlight=False, soft_wrap=True)


def show_empty_run(console: Console, manifests: Sequence[Manifest]) -> None:
    """Print that a run had nothing to do, and since when."""
    last = manifests[0]
    console.print(f"Run {last.run_id}: {last.message}; {last.documents} documents are up to date.", soft_wrap=True)


def show_line(console: Console, manifests: Sequence[Manifest]) -> None:
    """Print a run's counts on one line, for `run --every`."""
    by_job = {manifest.job: manifest for manifest in manifests}
    tagged = by_job["tag"]
    read = "documents" if tagged.full_scan else "new or changed"
    line = f"{tagged.started_at:%H:%M:%S} UTC  {tagged.rows_in} {read}, {tagged.tagged} tagged"
    if filtered := by_job.get("filter"):
        rejected = sum(filtered.rejected.values())
        line += f", {filtered.kept} kept, {rejected} rejected, {filtered.quarantined} quarantined"
    if routed := by_job.get("route"):
        counts = ", ".join(f"{count} to {route}" for route, count in routed.routed.items() if count)
        line += f"; {counts}" if counts else ""
    console.print(line, highlight=False, soft_wrap=True)


def run_table(run: PipelineRun, by_job: dict[str, Manifest]) -> ResultTable:
    """Return the counts of each step."""
    table = ResultTable(f"Run {escape(run.run_id)} of pipeline {escape(run.pipeline.name)}")
    table.text("step")
    table.text("outcome")
    table.number("rows")
    tag = by_job["tag"]
    table.row("documents", "in the source", str(tag.documents))
    if not tag.full_scan:
        table.row("", "new or changed since the last run", str(tag.rows_in))
    table.row("tag", "tagged in this run", str(tag.tagged))
    if tag.tombstoned:
        table.row("", "deleted from the source", str(tag.tombstoned))
    if filtered := by_job.get("filter"):
        table.section()
        table.row("filter", "evaluated", str(filtered.rows_in))
        if filtered.waiting:
            table.row("", "not tagged yet", str(filtered.waiting))
        table.row("", "[green]kept[/]", str(filtered.kept))
        for rule in run.pipeline.reject:
            table.row("", f"[yellow]rejected: {escape(rule.reason)}[/]", str(filtered.rejected.get(rule.reason, 0)))
        table.row("", "[red]quarantined: could not be scored[/]", str(filtered.quarantined))
    if routed := by_job.get("route"):
        table.section()
        for position, (route, count) in enumerate(routed.routed.items()):
            table.row("" if position else "route", f"to {escape(route)}", str(count))
    return table


def _samples(run: PipelineRun) -> ResultTable:
    """Kept documents with one to three labels, in a fixed order, so that each run shows the same ones."""
    text = run.pipeline.source.text
    table = ResultTable("Some of the documents")
    table.line("doc_id")
    table.line("text")
    table.text("labels, best first")
    kept = run.lake.read(run.spark, "kept").where("size(labels) between 1 and 3")
    rows = kept.orderBy("content_hash").select("doc_id", text, "labels", "scores").limit(_SAMPLES).collect()
    for row in rows:
        labels = ", ".join(f"{label} {row['scores'][label]:.2f}" for label in row["labels"])
        table.row(row["doc_id"][:_SAMPLE_ID_CHARS], " ".join(str(row[text]).split())[:_SAMPLE_CHARS], escape(labels))
    return table


def _print_speed(console: Console, tagged: Manifest) -> None:
    if not tagged.tagged:
        console.print("Nothing was tagged: every document already has its scores from this model and label set.")
        return
    console.print(
        f"Speed: [bold]{tagged.texts_per_s or 0:.0f} texts/s[/], {tagged.tokens_per_s or 0:.0f} tokens/s, "
        f"{tagged.padding_share or 0:.1%} padding, {tagged.model_loads} model loads (the time includes loading)"
    )
