"""What `retrain --check` shows: the evidence, what the gate can detect, what the training will read."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from gliclass_spark.cli.output.result_table import ResultTable
from gliclass_spark.cli.output.retraining_output import show_detectable_gain

if TYPE_CHECKING:
    from gliclass_spark.config.retraining import RetrainConfig
    from gliclass_spark.retraining.feedback_evidence import FeedbackEvidence
    from gliclass_spark.retraining.gate.golden_power import GoldenPower
    from gliclass_spark.retraining.readiness import Readiness

_MAX_LABELS = 10


def readiness_document(config: RetrainConfig, readiness: Readiness) -> dict[str, Any]:
    """Return the check as JSON."""
    costs = [{**asdict(cost), "passes": cost.passes} for cost in readiness.costs]
    return {"model": config.model_name, "ready": not readiness.problems, **asdict(readiness), "costs": costs}


def show_readiness(console: Console, config: RetrainConfig, readiness: Readiness) -> None:
    """Print three tables, and a line for each problem and note."""
    _evidence(config, readiness.evidence).print(console)
    _golden(config, readiness.golden).print(console)
    golden = readiness.golden
    show_detectable_gain(console, "the golden set", golden.texts, golden.detectable_gain, golden.texts_for_gain)
    console.print(f"({golden.assumption})", highlight=False, soft_wrap=True, markup=False)
    _costs(readiness).print(console)
    for note in readiness.notes:
        console.print(f"note: {note}", style="yellow", highlight=False, soft_wrap=True, markup=False)
    for problem in readiness.problems:
        console.print(f"problem: {problem}", style="red", highlight=False, soft_wrap=True, markup=False)
    stops = f"would stop: {len(readiness.problems)} problem(s)" if readiness.problems else "can start"
    console.print(f"The retraining {stops}. Nothing was written.", highlight=False)


def _evidence(config: RetrainConfig, evidence: FeedbackEvidence) -> ResultTable:
    table = ResultTable(f"Feedback on pipeline {escape(config.pipeline.name)}")
    table.text("evidence")
    table.number("count")
    table.text("of these, and what is needed")
    source, count = next(iter(evidence.sources.items()), ("", 0))
    share = f"{count / evidence.signals:.0%} of the signals from {source}" if evidence.signals else ""
    dropped = ", ".join(list(evidence.dropped)[:_MAX_LABELS])
    if evidence.dropped_documents:
        dropped += f"{'; ' if dropped else ''}{evidence.dropped_documents:,} on whole documents"
    for title, number, remark in (
        ("signals", evidence.signals, f"{evidence.mapped:,} on earlier label sets"),
        ("new since the last retraining", evidence.new, f"needed: {config.min_new_signals:,} (min_new_signals)"),
        ("dropped: the label is gone", sum(evidence.dropped.values()) + evidence.dropped_documents, dropped),
        ("late", evidence.late, "about an earlier decision: only a label's verdict counts"),
        ("sources", len(evidence.sources), share),
        ("decisions", evidence.decisions, f"on {evidence.documents:,} documents"),
        ("contradicting", evidence.contradicting, "their verdicts cancel each other"),
        (
            "judged by a verdict",
            evidence.judged,
            f"the label holds: {evidence.right_labels:,}, does not: {evidence.wrong_labels:,}",
        ),
        ("with a reward", evidence.rewarded, _rewards(evidence)),
        (
            "documents with one reward",
            evidence.rewarded_documents,
            f"for all of their labels, above 0: {evidence.accepted_documents:,}",
        ),
        (
            "judged or with a reward",
            evidence.usable,
            f"needed beside the {config.holdout_share:.0%} held out: {config.min_decisions:,} (min_decisions)",
        ),
        ("explored", evidence.explored, "that thresholds would have made otherwise"),
    ):
        table.row(title, f"{number:,}", escape(remark))
    return table


def _rewards(evidence: FeedbackEvidence) -> str:
    if evidence.lowest_reward is None or evidence.highest_reward is None:
        return ""
    return f"from {evidence.lowest_reward:g} to {evidence.highest_reward:g}"


def _golden(config: RetrainConfig, golden: GoldenPower) -> ResultTable:
    min_texts = config.gate.min_label_texts
    labels = sorted(golden.label_texts.items(), key=lambda item: item[1])
    rare = golden.rare_labels(min_texts)
    table = ResultTable(f"Golden set: {golden.texts:,} texts, {len(labels)} labels, the rarest first")
    table.text("label")
    table.number("texts")
    table.text("gate")
    for label, count in labels[:_MAX_LABELS]:
        remark = f"exempt from max_label_loss: fewer than {min_texts} texts (min_label_texts)" if label in rare else ""
        table.row(escape(label), f"{count:,}", remark)
    if len(labels) > _MAX_LABELS:
        more = sum(label in rare for label, _ in labels[_MAX_LABELS:])
        table.row(f"{len(labels) - _MAX_LABELS} more", "", f"{more} of them exempt" if more else "")
    return table


def _costs(readiness: Readiness) -> ResultTable:
    table = ResultTable("What the steps read, about")
    table.text("step")
    for heading in ("updates", "texts read", "different texts", "passes"):
        table.number(heading)
    for cost in readiness.costs:
        updates = f"{cost.updates:,}" if cost.updates is not None else ""
        table.row(cost.step, updates, f"{cost.texts:,}", f"{cost.distinct:,}", f"{cost.passes:.2f}")
    return table
