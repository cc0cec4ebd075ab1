"""What a run did, for people who look at a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from gliclass_spark.spark.manifest import Manifest
    from gliclass_spark.spark.steps import Run
    from gliclass_spark.training.evaluate import SetScore

_SAMPLES = 6
_SAMPLE_CHARS = 34


def show_run(console: Console, run: Run, manifests: Sequence[Manifest]) -> None:
    """Print the flow of rows, some documents with their labels, the speed, and what to type next."""
    by_job = {manifest.job: manifest for manifest in manifests}
    console.print(_flow(run, by_job))
    samples = _samples(run)
    if samples.row_count:
        console.print(samples)
    _tell_speed(console, by_job["tag"])
    console.print(
        f"Tables: {run.lake.root} (tags, kept, rejected, quarantined, runs, one for each route)", soft_wrap=True
    )
    first = run.pipeline.rules.destinations[0]
    console.print("Next, in PySpark:", style="dim")
    line = f'spark.read.format("delta").load("{run.lake.path(first)}").select("doc_id", "labels", "scores").show()'
    console.print(f"  {line}", soft_wrap=True, highlight=False)


def show_scores(console: Console, model: str, scores: Sequence[SetScore]) -> None:
    """Print the macro-F1 on each set, and their mean."""
    table = Table(title=f"Zero-shot macro-F1 of {model}", title_justify="left")
    table.add_column("set")
    for name in ("labels", "texts", "macro-F1"):
        table.add_column(name, justify="right")
    for score in scores:
        table.add_row(score.name, str(score.labels), str(score.rows), f"{score.macro_f1:.3f}")
    table.add_section()
    table.add_row("mean", "", "", f"{sum(score.macro_f1 for score in scores) / len(scores):.3f}")
    console.print(table)


def _flow(run: Run, by_job: dict[str, Manifest]) -> Table:
    filtered, routed = by_job["filter"], by_job["route"]
    table = Table(title=f"Run {run.run_id} of pipeline {run.pipeline.name}", title_justify="left")
    table.add_column("step")
    table.add_column("outcome")
    table.add_column("rows", justify="right")
    table.add_row("documents", "in", str(filtered.rows_in))
    tagged = by_job["tag"].tagged or 0
    table.add_row("tag", "tagged now", str(tagged))
    table.add_row("", "unchanged since an earlier run", str(by_job["tag"].rows_in - tagged))
    table.add_section()
    table.add_row("filter", "[green]kept[/]", str(filtered.kept))
    for rule in run.pipeline.reject:
        table.add_row("", f"[yellow]rejected: {rule.reason}[/]", str(filtered.rejected.get(rule.reason, 0)))
    table.add_row("", "[red]quarantined: could not be scored[/]", str(filtered.quarantined))
    table.add_section()
    for position, (name, count) in enumerate(routed.routed.items()):
        table.add_row("" if position else "route", f"to {name}", str(count))
    return table


def _samples(run: Run) -> Table:
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
