"""A plan: expected outcomes, estimates, the size of a cluster."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from gliclass_spark.cli.cluster_size import Executor, Workload, sizing
from gliclass_spark.cli.output.result_table import ResultTable

if TYPE_CHECKING:
    from gliclass_spark.spark.jobs.plan import Plan

_LINE_CHARS = 60


def show_plan(console: Console, name: str, plan: Plan) -> None:
    """Print what a run would tag, the estimated tokens and time, and the expected outcomes of the documents."""
    console.print(f"A run of pipeline {name} would read {plan.documents:,} documents", highlight=False)
    if plan.tokens is None or plan.seconds is None:
        console.print("and tag none of them: all have scores.")
    else:
        console.print(
            f"and tag {plan.to_tag:,} of them: about {plan.tokens:,} tokens, {_duration(plan.seconds)} of scoring "
            f"(from a sample of {plan.sampled:,}).",
            highlight=False,
        )
    if not plan.outcomes:
        return
    table = ResultTable("Expected outcomes")
    table.text("outcome")
    table.number("scored")
    table.number("estimated")
    table.line("examples")
    for expected in plan.outcomes:
        lines = [
            f"{document.doc_id}: {' '.join((document.text or '').split())}"[:_LINE_CHARS]
            for document in expected.samples
        ]
        estimate = f"~{expected.estimated:,}" if expected.estimated else "0"
        table.row(escape(expected.outcome), f"{expected.scored:,}", estimate, "\n".join(lines))
    table.print(console)


def show_first_estimate(console: Console, plan: Plan) -> None:
    """Print on one line what the first few documents say about all."""
    if plan.seconds is None:
        return
    outcomes = ", ".join(f"{expected.outcome} ~{expected.estimated:,}" for expected in plan.outcomes)
    line = f"from the first {plan.sampled} texts: {plan.documents:,} documents, {_duration(plan.seconds)} of scoring"
    shown = f"{line}; {outcomes}" if outcomes else line
    console.print(f"{shown} (reading the source for a better estimate)", markup=False, highlight=False, soft_wrap=True)


def plan_document(name: str, plan: Plan, workload: Workload | None, executor: Executor) -> dict[str, Any]:
    """Return a plan as JSON. cluster: the size for the workload, null without one."""
    cluster = {**asdict(workload), **asdict(executor), **asdict(sizing(workload, executor))} if workload else None
    return {"pipeline": name, **asdict(plan), "cluster": cluster}


def show_sizing(console: Console, workload: Workload, executor: Executor) -> None:
    """Print the cluster for a workload, with the arithmetic of each line."""
    size = sizing(workload, executor)
    table = ResultTable(f"A cluster for {workload.documents:,} documents within {workload.hours:g} hours")
    table.text("what")
    table.number("how")
    table.number("")
    slot_speed = workload.texts_per_s * workload.spark_share
    slots = size.executors * executor.slots
    rows = [
        (
            "texts/s of one slot, table to table",
            f"{workload.texts_per_s:,.4g} x {workload.spark_share:g}",
            f"{slot_speed:,.4g}",
        ),
        (
            "hours of one slot alone",
            f"{workload.documents:,} / {slot_speed:,.4g} / 3,600",
            f"{size.slot_hours:,.4g}",
        ),
        (
            f"executors of {executor.slots} slots",
            f"{size.slot_hours:,.4g} / {workload.hours:g} / {executor.slots}, rounded up",
            f"{size.executors:,}",
        ),
        ("hours of the run", f"{size.slot_hours:,.4g} / {slots:,}", f"{size.hours:,.4g}"),
    ]
    if executor.price_per_hour:
        cost = f"{size.executors:,} x {size.hours:,.4g} x {executor.price_per_hour:g}"
        rows.append(("cost", cost, f"{size.cost:,.2f}"))
    for row in rows:
        table.row(*row)
    table.print(console)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
