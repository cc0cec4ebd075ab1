"""Whether a retraining is worth its time: its evidence, what its gate can detect, what it will read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from gliclass_spark.config.catalog import table_path
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.retraining.feedback_evidence import FeedbackEvidence, count_evidence
from gliclass_spark.retraining.gate.golden_power import GoldenPower, golden_power
from gliclass_spark.retraining.retraining_data import (
    document_rewards_note,
    read_golden,
    unknown_labels_message,
)
from gliclass_spark.retraining.training_cost import StepCost, estimate_costs, passes_note
from gliclass_spark.training.data.labelled_text import read_sets

_MAX_LISTED = 5
_LARGE_SOURCE_SHARE = 0.5


@dataclass(frozen=True)
class Readiness:
    """problems: why the retraining would stop. notes: limits of its data and settings, for the user."""

    evidence: FeedbackEvidence
    golden: GoldenPower
    costs: tuple[StepCost, ...]
    problems: tuple[str, ...]
    notes: tuple[str, ...]


def check_readiness(config: RetrainConfig) -> Readiness:
    """Return what can be known before a retraining, without Spark and without a model.

    Raises TrainingError or TableError if a labelled set or a table can't be read.
    """
    golden_set, evidence = read_golden(config.golden), count_evidence(config)
    golden = golden_power(config, golden_set)
    replay, retention = (
        sum(len(labelled) for path in paths for labelled in read_sets(Path(path)))
        for paths in (config.replay, config.retention)
    )
    documents = evidence.training_documents(config.holdout_share)
    held_out = evidence.judged_documents - documents
    costs = estimate_costs(config, documents, golden.texts, replay, retention + held_out)
    unknown = unknown_labels_message(golden_set, config.pipeline.label_set)
    problems = (*_problems(config, evidence), *([unknown] if unknown is not None else ()))
    notes = (*_evidence_notes(config, evidence), *_golden_notes(golden))
    passes = passes_note(config, costs[0])
    return Readiness(evidence, golden, costs, problems, (*notes, *([passes] if passes is not None else ())))


def _problems(config: RetrainConfig, evidence: FeedbackEvidence) -> Iterator[str]:
    name = config.pipeline.label_set.name
    if not evidence.signals and (evidence.dropped or evidence.dropped_documents):
        count = sum(evidence.dropped.values()) + evidence.dropped_documents
        labels = f" ({_listed(evidence.dropped)})" if evidence.dropped else ""
        yield (
            f"all {count:,} signals are about labels that {name!r} lacks{labels}; bring feedback on its labels, or "
            "bring these labels back"
        )
        return
    if not evidence.signals:
        yield (
            f"there is no feedback about {name!r} or an earlier label set of the pipeline in "
            f"{table_path(config.pipeline.tables, 'feedback')}; bring some: gliclass-spark feedback "
            f"{config.pipeline_file} SIGNALS"
        )
        return
    usable = round(evidence.usable * (1.0 - config.holdout_share))
    if usable < config.min_decisions:
        yield (
            f"about {usable:,} of {evidence.usable:,} judged or rewarded decisions are left to train on "
            f"(holdout_share: {config.holdout_share:g}), {config.min_decisions:,} are needed; bring more feedback, or "
            "lower min_decisions"
        )
    if evidence.usable and not evidence.judged_documents and not config.replay:
        yield (
            f"none of {evidence.usable:,} rewards says which label holds: those of labels are 0, and a document whose "
            "labels were rejected together does not say which of them was wrong; bring rewards of good decisions, or "
            "verdicts on labels"
        )
    if evidence.judged and not (evidence.right_labels and evidence.wrong_labels):
        meaning = "holds" if evidence.right_labels else "does not hold"
        yield (
            f"all {evidence.judged:,} judgements say that a label {meaning}, so there is nothing to tell apart; bring "
            "feedback on decisions that were wrong and on some that were right"
        )


def _evidence_notes(config: RetrainConfig, evidence: FeedbackEvidence) -> Iterator[str]:
    if not evidence.signals:
        return
    if evidence.new < config.min_new_signals:
        yield (
            f"{evidence.new:,} signals are new since the last retraining, and Airflow waits for "
            f"{config.min_new_signals:,} (min_new_signals)"
        )
    source, count = next(iter(evidence.sources.items()))
    share = count / evidence.signals
    if len(evidence.sources) == 1:
        yield (
            f"all signals are from one source, {source!r}: the candidate learns its opinion, and its errors; bring "
            "feedback of others"
        )
    elif config.max_source_share is None and share > _LARGE_SOURCE_SHARE:
        yield f"{share:.0%} of the signals are from {source!r}; `max_source_share: 0.5` limits what one source decides"
    if (evidence.rewarded or evidence.rewarded_documents) and evidence.lowest_reward == evidence.highest_reward:
        yield (
            f"all rewards are equal ({evidence.lowest_reward:g}): they don't say which decisions are better; bring "
            "feedback on wrong decisions and on right ones"
        )
    if evidence.rewarded_documents and config.ppo is None and config.pipeline.label_set.multi_label:
        yield document_rewards_note(evidence.rewarded_documents)
    if not evidence.with_propensity:
        yield (
            "all decisions were made by thresholds: nothing can be learned about labels that documents were not given, "
            "except from corrections; set `exploration` in the pipeline, to 0.02, say"
        )


def _golden_notes(golden: GoldenPower) -> Iterator[str]:
    missing = golden.rare_labels(1)
    if missing:
        yield (
            f"the golden set has no text of {len(missing)} label(s) ({_listed(missing)}): the gate can't see whether "
            "they get worse; add texts that have them"
        )


def _listed(labels: Mapping[str, int]) -> str:
    names = list(labels)
    more = f" and {len(names) - _MAX_LISTED} more" if len(names) > _MAX_LISTED else ""
    return ", ".join(names[:_MAX_LISTED]) + more
