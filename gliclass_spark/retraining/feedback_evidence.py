"""What evidence there is for a retraining, counted in the table `feedback` without Spark."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.feedback.verdicts import VERDICTS
from gliclass_spark.runs.signal_counts import query_signals, signals_trained_on

# One row of counts. Of a decision every signal counts, also one that a later signal supersedes: what the snapshot makes
# of them takes Spark.
_DECISIONS = """
, decisions as (
    select doc_id, label, content_hash,
        bool_or({target} = 1) as holds, bool_or({target} = 0) as holds_not,
        bool_or(reward is not null and chosen is not null) as rewarded,
        bool_or(case when chosen then propensity < 0.5 else propensity > 0.5 end) as explored,
        bool_or(propensity is not null) as has_propensity,
        min(case when chosen is not null then reward end) as lowest,
        max(case when chosen is not null then reward end) as highest
    from signals where has_label group by doc_id, label, content_hash
)
select count(*) as decisions,
    count(distinct doc_id) as documents,
    count(*) filter (where holds) as right_labels,
    count(*) filter (where holds_not) as wrong_labels,
    count(*) filter (where holds or holds_not) as judged,
    count(*) filter (where rewarded) as rewarded,
    count(*) filter (where holds or holds_not or rewarded) as usable,
    count(distinct case when holds or holds_not or (rewarded and (lowest <> 0 or highest <> 0)) then doc_id end)
        as judged_documents,
    count(*) filter (where explored and (holds or holds_not or rewarded)) as explored,
    count(*) filter (where has_propensity) as with_propensity,
    min(lowest) as lowest_reward,
    max(highest) as highest_reward
from decisions
"""
_SIGNALS = """
select label, source, has_label, is_earlier, count(*) as signals from signals
group by label, source, has_label, is_earlier
"""


def _explicit_verdicts(target: int | None) -> str:
    """Return the explicit verdicts that state this target as a list in SQL."""
    names = [verdict.name for verdict in VERDICTS if verdict.explicit and verdict.target == target]
    return ", ".join(f"'{name}'" for name in names)


# Whether the label holds by one signal: 1, 0 or null, as `feedback.verdicts` defines it.
_TARGET = (
    f"(case when verdict in ({_explicit_verdicts(1)}) then 1 when verdict in ({_explicit_verdicts(0)}) then 0 "
    f"when verdict in ({_explicit_verdicts(None)}) and reward <> 0 then cast(chosen = (reward > 0) as int) end)"
)


@dataclass(frozen=True)
class FeedbackEvidence:
    """Counts of the signals about the pipeline's label sets, and of the decisions that they are about.

    signals: about labels of the present label set, of these `mapped` from earlier ones, and `new` since the last
    finished retraining. dropped: signals about labels that it no longer has, by label. sources: signals by source, the
    largest first.

    decisions: on one label of one text. judged: whose label holds (`right_labels`) or does not (`wrong_labels`) by a
    verdict. rewarded: whose action and reward are known. usable: judged or rewarded. explored: usable decisions that
    thresholds would have made the other way. with_propensity: made under exploration. judged_documents: those that a
    supervised training reads. lowest_reward, highest_reward: None without rewards.

    Superseded signals, and decisions on texts that were changed or deleted since, are counted, too: the snapshot leaves
    them out.
    """

    signals: int = 0
    mapped: int = 0
    new: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    sources: dict[str, int] = field(default_factory=dict)
    decisions: int = 0
    documents: int = 0
    right_labels: int = 0
    wrong_labels: int = 0
    judged: int = 0
    rewarded: int = 0
    usable: int = 0
    judged_documents: int = 0
    explored: int = 0
    with_propensity: int = 0
    lowest_reward: float | None = None
    highest_reward: float | None = None

    def training_documents(self, holdout_share: float) -> int:
        """Return how many of the judged documents are left for the training, about."""
        return round(self.judged_documents * (1.0 - holdout_share))


def count_evidence(config: RetrainConfig) -> FeedbackEvidence:
    """Return the evidence that there is now; zeros without feedback. Raises TableError if it can't be read."""
    pipeline = config.pipeline
    signals = query_signals(pipeline, _SIGNALS)
    if not signals:
        return FeedbackEvidence()
    sources, dropped = Counter[str](), Counter[str]()
    mapped = 0
    for row in signals:
        count = int(row["signals"])
        if not row["has_label"]:
            dropped[row["label"]] += count
            continue
        sources[row["source"] or ""] += count
        mapped += count if row["is_earlier"] else 0
    total = sources.total()
    [counts] = query_signals(pipeline, _DECISIONS.format(target=_TARGET))
    return FeedbackEvidence(
        total,
        mapped,
        max(total - signals_trained_on(config), 0),
        _largest_first(dropped),
        _largest_first(sources),
        **counts,
    )


def _largest_first(counts: Counter[str]) -> dict[str, int]:
    """Return the counts, equal ones by name: rows of a query come in any order."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
