"""What a run did, for people who look at a terminal."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from gliclass_spark.cli.cluster_size import Executor, Workload, sizing

if TYPE_CHECKING:
    from gliclass_spark.checkpoints.registry import Version
    from gliclass_spark.inference.results import Classification
    from gliclass_spark.labels import LabelSet
    from gliclass_spark.runs.manifest import Manifest
    from gliclass_spark.spark.jobs import PipelineRun
    from gliclass_spark.spark.jobs.ingest_feedback import Ingested
    from gliclass_spark.spark.jobs.maintain import Care
    from gliclass_spark.spark.jobs.plan import Plan

_SAMPLES = 6
_SAMPLE_CHARS = 34
_LINE_CHARS = 60
_TEXT_CHARS = 80


def show_run(console: Console, run: PipelineRun, manifests: Sequence[Manifest]) -> None:
    """Print the flow of rows, some documents with their labels, the speed, and what to type next."""
    by_job = {manifest.job: manifest for manifest in manifests}
    console.print(_flow(run, by_job))
    if "filter" in by_job:
        samples = _samples(run)
        if samples.row_count:
            console.print(samples)
    _tell_speed(console, by_job["tag"])
    decisions = {"filter": "kept, rejected, quarantined, ", "route": "one for each route, "}
    listed = "".join(names for job, names in decisions.items() if job in by_job)
    console.print(f"Tables: {run.lake.root} (tags, {listed}runs)", soft_wrap=True)
    first = {"tag": "tags", "filter": "kept", "route": run.pipeline.rules.destinations[0]}[manifests[-1].job]
    console.print("Next, in PySpark:", style="dim")
    line = f'spark.read.format("delta").load("{run.lake.path(first)}").select("doc_id", "labels", "scores").show()'
    console.print(f"  {line}", soft_wrap=True, highlight=False)


def show_line(console: Console, manifests: Sequence[Manifest]) -> None:
    """Print what a run did on one line, for one that is run again and again."""
    by_job = {manifest.job: manifest for manifest in manifests}
    tagged = by_job["tag"]
    line = f"{tagged.started_at:%H:%M:%S} UTC  {tagged.rows_in} new or changed, {tagged.tagged} tagged"
    if filtered := by_job.get("filter"):
        rejected = sum(filtered.rejected.values())
        line += f", {filtered.kept} kept, {rejected} rejected, {filtered.quarantined} quarantined"
    if routed := by_job.get("route"):
        to = ", ".join(f"{count} to {name}" for name, count in routed.routed.items() if count)
        line += f"; {to}" if to else ""
    console.print(line, highlight=False, soft_wrap=True)


def show_plan(console: Console, name: str, plan: Plan) -> None:
    """Print what a run would tag, what that would cost, and what would become of the documents."""
    console.print(f"A run of pipeline {name} would look at {plan.documents:,} documents", highlight=False)
    if plan.tokens is None or plan.seconds is None:
        console.print("and tag none of them: they have their scores.")
    else:
        console.print(
            f"and tag {plan.to_tag:,} of them: about {plan.tokens:,} tokens, {_duration(plan.seconds)} of scoring "
            f"(from a sample of {plan.sampled:,}).",
            highlight=False,
        )
    if not plan.outcomes:
        return
    table = Table(title="What would become of them", title_justify="left")
    table.add_column("outcome", no_wrap=True)
    table.add_column("known", justify="right")
    table.add_column("estimated", justify="right")
    table.add_column("some of them", no_wrap=True, overflow="ellipsis")
    for expected in plan.outcomes:
        lines = [f"{each.doc_id}: {' '.join((each.text or '').split())}"[:_LINE_CHARS] for each in expected.documents]
        guess = f"~{expected.estimated:,}" if expected.estimated else "0"
        table.add_row(expected.outcome, f"{expected.known:,}", guess, escape("\n".join(lines)))
    console.print(table)


def show_sizing(console: Console, work: Workload, executor: Executor) -> None:
    """Print the cluster for a workload, step by step."""
    found = sizing(work, executor)
    table = Table(title=f"A cluster for {work.documents:,} documents within {work.hours:g} hours", title_justify="left")
    table.add_column("what")
    table.add_column("how", justify="right")
    table.add_column("", justify="right")
    speed = work.texts_per_s * work.spark_share
    slots = found.executors * executor.slots
    table.add_row(
        "texts/s of one slot, table to table", f"{work.texts_per_s:,.4g} x {work.spark_share:g}", f"{speed:,.4g}"
    )
    table.add_row("hours of one slot alone", f"{work.documents:,} / {speed:,.4g} / 3,600", f"{found.slot_hours:,.4g}")
    table.add_row(
        f"executors of {executor.slots} slots",
        f"{found.slot_hours:,.4g} / {work.hours:g} / {executor.slots}, rounded up",
        f"{found.executors:,}",
    )
    table.add_row("hours that they take", f"{found.slot_hours:,.4g} / {slots:,}", f"{found.hours:,.4g}")
    if executor.price_per_hour:
        how = f"{found.executors:,} x {found.hours:,.4g} x {executor.price_per_hour:g}"
        table.add_row("cost", how, f"{found.cost:,.2f}")
    console.print(table)


def show_care(console: Console, done: Sequence[Care]) -> None:
    """Print what maintenance did for each table."""
    table = Table(title="Compacted and vacuumed", title_justify="left")
    table.add_column("table")
    for name in ("files before", "files after", "MB before", "MB after"):
        table.add_column(name, justify="right")
    for care in done:
        sizes = (f"{care.bytes_before / 1e6:.1f}", f"{care.bytes_after / 1e6:.1f}")
        table.add_row(care.table, str(care.files_before), str(care.files_after), *sizes)
    console.print(table)


def show_feedback(console: Console, name: str, found: Ingested) -> None:
    """Print what became of the signals, and for each reason to refuse some of them an example."""
    table = Table(title=f"Signals for pipeline {name}", title_justify="left")
    table.add_column("signals")
    table.add_column("rows", justify="right")
    for title, count in (("read", found.read), ("new", found.new), ("already known", found.known)):
        table.add_row(title, f"{count:,}")
    table.add_row("late: of the new ones, about an earlier decision", f"{found.late:,}")
    for reason, refused in found.refused.items():
        table.add_row(escape(f"refused: {reason}"), f"{refused.count:,}")
    table.add_row("decisions that they contradict each other on", f"{found.contradicting:,}")
    console.print(table)
    for reason, refused in found.refused.items():
        console.print(f"refused: {reason}, as {refused.example}", markup=False, highlight=False, soft_wrap=True)


def show_scored(console: Console, text: str, found: Classification, label_set: LabelSet) -> None:
    """Print a text's scores, best first, a line for each branch of the labels; a star marks the labels that it gets."""
    lines = [found.error.message] if found.error else _branch_lines(found, label_set)
    console.print("\n  ".join([text[:_TEXT_CHARS], *lines]), markup=False, highlight=False)


def _branch_lines(found: Classification, label_set: LabelSet) -> list[str]:
    holding = {scored.label for scored in found.labels}
    by_branch: defaultdict[tuple[str, ...], list[tuple[float, str]]] = defaultdict(list)
    for label in label_set.labels:
        score = found.scores[label.name]
        star = "*" if label.name in holding else " "
        by_branch[label.branches].append((score, f"{star}{label.own_name} {score:.2f}"))
    lines = []
    for branches, scored in by_branch.items():
        best_first = sorted(scored, key=lambda each: -each[0])
        shown = "  ".join(line for _, line in best_first)
        lines.append(f"{'.'.join(branches)}: {shown}" if branches else shown)
    return lines


def show_versions(console: Console, name: str, versions: Sequence[Version]) -> None:
    """Print the versions of a registered model, the latest first."""
    table = Table(title=f"Versions of {name}", title_justify="left")
    table.add_column("version", justify="right")
    table.add_column("aliases")
    table.add_column("digest")
    table.add_column("created (UTC)")
    table.add_column("macro-F1", justify="right")
    for version in reversed(versions):
        table.add_row(
            str(version.number),
            escape(", ".join(version.aliases)),
            version.digest[:12],
            f"{version.created_at:%Y-%m-%d %H:%M}",
            escape(version.tags.get("macro_f1", "")),
        )
    console.print(table)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _flow(run: PipelineRun, by_job: dict[str, Manifest]) -> Table:
    table = Table(title=f"Run {run.run_id} of pipeline {run.pipeline.name}", title_justify="left")
    table.add_column("step")
    table.add_column("outcome")
    table.add_column("rows", justify="right")
    tag = by_job["tag"]
    table.add_row("documents", "in the source", str(tag.documents))
    if not tag.whole:
        table.add_row("", "new or changed since the last run", str(tag.rows_in))
    table.add_row("tag", "tagged now", str(tag.tagged))
    if tag.tombstoned:
        table.add_row("", "gone from the source", str(tag.tombstoned))
    if filtered := by_job.get("filter"):
        table.add_section()
        table.add_row("filter", "decided about", str(filtered.rows_in))
        if filtered.waiting:
            table.add_row("", "waiting to be tagged", str(filtered.waiting))
        table.add_row("", "[green]kept[/]", str(filtered.kept))
        for rule in run.pipeline.reject:
            table.add_row("", f"[yellow]rejected: {rule.reason}[/]", str(filtered.rejected.get(rule.reason, 0)))
        table.add_row("", "[red]quarantined: could not be scored[/]", str(filtered.quarantined))
    if routed := by_job.get("route"):
        table.add_section()
        for position, (name, count) in enumerate(routed.routed.items()):
            table.add_row("" if position else "route", f"to {name}", str(count))
    return table


def _samples(run: PipelineRun) -> Table:
    """Some kept documents with few labels, the same ones every time."""
    text = run.pipeline.source.text
    table = Table(title="Some of the documents", title_justify="left")
    table.add_column("doc_id", overflow="ellipsis", no_wrap=True, max_width=16)
    table.add_column("text", no_wrap=True, overflow="ellipsis")
    table.add_column("labels, best first")
    kept = run.lake.read(run.spark, "kept").where("size(labels) between 1 and 3")
    rows = kept.orderBy("content_hash").select("doc_id", text, "labels", "scores").limit(_SAMPLES).collect()
    for row in rows:
        labels = ", ".join(f"{label} {row['scores'][label]:.2f}" for label in row["labels"])
        table.add_row(row["doc_id"], " ".join(str(row[text]).split())[:_SAMPLE_CHARS], labels)
    return table


def _tell_speed(console: Console, tagged: Manifest) -> None:
    if not tagged.tagged:
        console.print("Nothing was tagged: every document already has its scores from this model and label set.")
        return
    console.print(
        f"Speed: [bold]{tagged.texts_per_s or 0:.0f} texts/s[/], {tagged.tokens_per_s or 0:.0f} tokens/s, "
        f"{tagged.padding_share or 0:.1%} padding, {tagged.model_loads} model loads (loading included in the time)"
    )
