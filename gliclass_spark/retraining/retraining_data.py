"""The data of a retraining: what it trains on and what it is evaluated on, checked before any training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.errors import TrainingError
from gliclass_spark.labels import LabelSet
from gliclass_spark.retraining.near_duplicates import near_duplicates
from gliclass_spark.training.data.labelled_text import LabelledSet, normalized_text, read_sets, shared_texts
from gliclass_spark.training.data.logged_decisions import LoggedDecisions, read_decisions
from gliclass_spark.training.data.table_files import data_version


@dataclass(frozen=True)
class RetrainingData:
    """Feedback and labelled sets.

    training, held_out: documents with feedback, the newest held out. golden: never trained on. replay: sets that are
    trained on again. retention: sets of other labels, to measure forgetting. notes: limits of the data, for the user.
    """

    training: LoggedDecisions
    held_out: LoggedDecisions
    golden: LabelledSet
    replay: tuple[LabelledSet, ...]
    retention: tuple[LabelledSet, ...]
    notes: tuple[str, ...]

    def split_held_out(self, seed: int) -> tuple[LoggedDecisions, LoggedDecisions]:
        """Return two halves of the held-out documents: to choose a candidate by, and for the gate."""
        is_first = np.random.default_rng(seed).permutation(len(self.held_out)) % 2 == 1
        return self.held_out.where(is_first), self.held_out.where(~is_first)


def read_retraining_data(config: RetrainConfig, snapshot: Path) -> RetrainingData:
    """Return snapshot, golden set, replayed sets and retention sets.

    Texts of the golden set and of the retention sets, and near-duplicates of them, are left out of the training.
    Raises TrainingError if too few decisions are judged or rewarded, if all judgements agree, if no text of a replayed
    set is left, or if the golden set is more than one table or has a label that the label set lacks.
    """
    decisions = read_decisions(snapshot)
    training, held_out = decisions.where(~decisions.held_out), decisions.where(decisions.held_out)
    replay, retention = (
        tuple(labelled for path in paths for labelled in read_sets(Path(path)))
        for paths in (config.replay, config.retention)
    )
    golden = read_golden(config.golden)
    _refuse_unknown_labels(golden, training)
    evaluated = [text for labelled in (golden, *retention) for text in labelled.texts]
    duplicates = near_duplicates(training.texts, evaluated)
    training = training.where(np.array([row not in duplicates for row in range(len(training))], dtype=bool))
    replay_rows = [near_duplicates(labelled.texts, evaluated) for labelled in replay]
    replay = tuple(map(_without_rows, replay, replay_rows))
    left_out = len(duplicates) + sum(map(len, replay_rows))
    _refuse_little_feedback(training, config.min_decisions)
    held_out = _without_texts(held_out, tuple(text for labelled in replay for text in labelled.texts) + training.texts)
    notes = (*_left_out_note(left_out), *_notes(training, held_out, replay, config))
    return RetrainingData(training, held_out, golden, replay, retention, notes)


def read_golden(path: str) -> LabelledSet:
    """Return the golden set. Raises TrainingError if it is more than one table, or none that can be read."""
    tables = read_sets(Path(path))
    if len(tables) == 1:
        return tables[0]
    names = ", ".join(table.name for table in tables)
    raise TrainingError(f"golden: {path} holds {len(tables)} tables ({names}); give the path of one of them")


def unknown_labels_message(golden: LabelledSet, label_set: LabelSet) -> str | None:
    """Return what is wrong with a golden set that has labels which the label set lacks; None if it has none."""
    unknown = sorted(set(golden.labels) - set(label_set.names))
    if not unknown:
        return None
    return (
        f"the golden set {golden.name} has {len(unknown)} label(s) that {label_set.name!r} lacks: "
        f"{', '.join(unknown[:5])}; label it with the names of the pipeline's label set"
    )


def document_rewards_note(documents: int) -> str:
    """Return what to do about this many documents with one reward for all of their labels, without PPO."""
    return (
        f"{documents:,} documents have one reward for all of their labels: PPO learns more from these than supervised "
        "training, which takes the labels of the good ones as true; turn it on: ppo: {}"
    )


def data_versions(config: RetrainConfig) -> dict[str, str]:
    """Return path and version of each table beside the snapshot, by role."""
    tables = {"golden": config.golden}
    for role, paths in (("replay", config.replay), ("retention", config.retention)):
        tables |= {f"{role}.{number}": path for number, path in enumerate(paths)}
    return {f"data.{role}": f"{path}@{data_version(Path(path))}" for role, path in tables.items()}


def _refuse_unknown_labels(golden: LabelledSet, training: LoggedDecisions) -> None:
    unknown = unknown_labels_message(golden, training.label_set)
    if unknown is not None:
        raise TrainingError(unknown)


def _without_rows(labelled: LabelledSet, rows: frozenset[int]) -> LabelledSet:
    if len(rows) == len(labelled):
        raise TrainingError(
            f"replay: all {len(labelled)} texts of {labelled.name} are texts of the golden set or of a retention set, "
            "so nothing could be evaluated on them; name another table"
        )
    return labelled.rows(row for row in range(len(labelled)) if row not in rows)


def _left_out_note(count: int) -> Iterator[str]:
    if count:
        yield (
            f"{count} texts are left out of the training: they are texts of the golden set or of a retention set, or "
            "near-duplicates of them"
        )


def _refuse_little_feedback(training: LoggedDecisions, min_decisions: int) -> None:
    usable = int((training.judged | training.rewarded).sum()) + _rewarded_documents(training)
    if usable < min_decisions:
        raise TrainingError(
            f"{usable} decisions are judged or rewarded, {min_decisions} are needed; bring more feedback "
            "(gliclass-spark feedback), or lower min_decisions"
        )
    judgements = set(training.targets[training.judged].tolist())
    if len(judgements) == 1:
        meaning = "holds" if judgements == {1.0} else "does not hold"
        raise TrainingError(
            f"all {int(training.judged.sum())} judgements say that a label {meaning}, so there is nothing to tell "
            "apart; bring feedback on decisions that were wrong and on some that were right"
        )


def _rewarded_documents(decisions: LoggedDecisions) -> int:
    return int(decisions.sharing.any(axis=1).sum())


def _contradicting_judgements(decisions: LoggedDecisions) -> int:
    """Return how many judgements of a label say the contrary of another one, of an equal text."""
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, text in enumerate(decisions.texts):
        rows[normalized_text(text)].append(row)
    equal = (decisions.targets[same] for same in rows.values() if len(same) > 1)
    return sum(int((each >= 0)[:, (each == 1).any(axis=0) & (each == 0).any(axis=0)].sum()) for each in equal)


def _without_texts(decisions: LoggedDecisions, texts: tuple[str, ...]) -> LoggedDecisions:
    """A held-out copy of a training document evaluates nothing."""
    shared = shared_texts(_unlabelled(decisions.texts), _unlabelled(texts))
    return decisions.where(np.array([row not in shared for row in range(len(decisions))], dtype=bool))


def _unlabelled(texts: tuple[str, ...]) -> LabelledSet:
    return LabelledSet("texts", (), texts, ((),) * len(texts))


def _notes(
    training: LoggedDecisions, held_out: LoggedDecisions, replay: Sequence[LabelledSet], config: RetrainConfig
) -> Iterator[str]:
    evidence = training.evidence(config.supervised.max_weight)
    if evidence.impossible:
        yield (
            f"{evidence.impossible} decisions were made although their propensity says that they could not be: they "
            "count as made by thresholds; ingest feedback with the tables that its decisions were made with"
        )
    if training.explored:
        explored = f"{evidence.judgements} judgements, {evidence.explored} of them of explored decisions,"
        if config.supervised.max_weight == 1:
            yield f"{explored} weigh alike, apart from the size of their rewards (max_weight: 1)"
        else:
            yield (
                f"{explored} have an effective sample size of {evidence.effective_sample_size:.0f} under "
                f"inverse-propensity weights; {evidence.clipped} weights are clipped to {evidence.max_weight:.3g}"
            )
    else:
        yield (
            "all decisions were made by thresholds: nothing can be learned about labels that documents were not given, "
            "except from corrections; set `exploration` in the pipeline, to 0.02, say"
        )
    if not (held_out.judged | held_out.rewarded).any():
        yield (
            "no feedback is held out: the gate has the golden set alone; bring feedback on more documents, or raise "
            "holdout_share"
        )
    if not replay:
        yield "nothing is replayed: other labels may be forgotten; name sets in `replay`"
    documents = _rewarded_documents(training)
    if documents and config.ppo is None and training.label_set.multi_label:
        yield document_rewards_note(documents)
    contradicting = _contradicting_judgements(training)
    if contradicting:
        yield (
            f"{contradicting} verdicts on labels of equal texts contradict each other: the training reads both sides; "
            "decide which one holds, and bring it as the newest"
        )
    is_rewarded = training.rewarded.any() or documents
    if config.ppo is not None and not is_rewarded:
        yield "no decision has a reward: PPO trains on judgements alone"
    if config.ppo is not None and is_rewarded and not training.rewards_differ(config.ppo.not_given):
        yield (
            "all rewards are equal: PPO trains on judgements alone; if labels that are not given earn nothing, say so: "
            "ppo: {not_given: zero}"
        )
