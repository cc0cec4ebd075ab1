"""What evidence there is for a retraining, counted in the table `feedback` without Spark."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.feedback.signal_join import join_statement
from gliclass_spark.runs.signal_counts import query_signals, signals_trained_on

# One row of counts, of the decisions that the snapshot's join of signals gives.
_DECISIONS = """
, joined as ({joined}), decisions as (
    select *, label is not null and target is not null as is_judged,
        label is not null and reward is not null and chosen is not null as is_rewarded,
        label is null and reward is not null and chosen is not null as is_document,
        case when chosen then propensity < 0.5 else propensity > 0.5 end as is_explored
    from joined
)
select count(*) as decisions,
    count(distinct doc_id) as documents,
    count(case when label is not null and target = 1 then 1 end) as right_labels,
    count(case when label is not null and target = 0 then 1 end) as wrong_labels,
    count(case when is_judged then 1 end) as judged,
    count(case when is_rewarded then 1 end) as rewarded,
    count(case when is_document then 1 end) as rewarded_documents,
    count(case when is_document and reward > 0 then 1 end) as accepted_documents,
    count(case when is_judged or is_rewarded or is_document then 1 end) as usable,
    count(distinct case when is_judged or (is_rewarded and reward <> 0) or (is_document and reward > 0) then doc_id end)
        as judged_documents,
    count(case when is_explored and (is_judged or is_rewarded) then 1 end) as explored,
    count(case when propensity is not null or propensities is not null then 1 end) as with_propensity,
    count(case when contradicting then 1 end) as contradicting,
    cast(coalesce(sum(late), 0) as bigint) as late,
    min(case when is_rewarded or is_document then reward end) as lowest_reward,
    max(case when is_rewarded or is_document then reward end) as highest_reward
from decisions
"""
_SIGNALS = """
select label, source, has_label, is_earlier, count(*) as signals from signals
group by label, source, has_label, is_earlier
"""
# The text is part of the key. Signals about earlier label sets count as if they were about the present one.
_KEY = ("doc_id", "label", "content_hash")


@dataclass(frozen=True)
class FeedbackEvidence:
    """Counts of the signals about the pipeline's label sets, and of the decisions that they are about.

    signals: about labels of the present label set, of these `mapped` from earlier ones, and `new` since the last
    finished retraining. dropped: signals about labels that it no longer has, by label. dropped_documents: signals about
    documents that got such a label. sources: signals by source, the largest first.

    decisions: on one label of one text, or on all of its labels. judged: whose label holds (`right_labels`) or does not
    (`wrong_labels`) by a verdict. rewarded: whose action and reward are known. rewarded_documents: with a reward for
    all labels of a document; accepted_documents: with one above 0. usable: judged or rewarded. explored: usable
    decisions on a label that thresholds would have made the other way. with_propensity: made under exploration.
    contradicting: whose verdicts cancel each other. late: signals about an earlier decision, of which at most the
    target is known. judged_documents: those that a supervised training reads. lowest_reward, highest_reward: None
    without rewards.

    The counts are those of the snapshot's join of signals. The snapshot then leaves out decisions on texts that were
    changed or deleted since, which are counted here.
    """

    signals: int = 0
    mapped: int = 0
    new: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    dropped_documents: int = 0
    sources: dict[str, int] = field(default_factory=dict)
    decisions: int = 0
    documents: int = 0
    right_labels: int = 0
    wrong_labels: int = 0
    judged: int = 0
    rewarded: int = 0
    rewarded_documents: int = 0
    accepted_documents: int = 0
    usable: int = 0
    judged_documents: int = 0
    explored: int = 0
    with_propensity: int = 0
    contradicting: int = 0
    late: int = 0
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
    mapped = dropped_documents = 0
    for row in signals:
        count = int(row["signals"])
        if not row["has_label"]:
            if row["label"] is None:
                dropped_documents += count
            else:
                dropped[row["label"]] += count
            continue
        sources[row["source"] or ""] += count
        mapped += count if row["is_earlier"] else 0
    total = sources.total()
    joined = join_statement(
        "(select * from signals where has_label)", config.feedback.resolve, _KEY, ("propensity", "propensities")
    )
    [counts] = query_signals(pipeline, _DECISIONS.format(joined=joined))
    return FeedbackEvidence(
        total,
        mapped,
        max(total - signals_trained_on(config), 0),
        _largest_first(dropped),
        dropped_documents,
        _largest_first(sources),
        **counts,
    )


def _largest_first(counts: Counter[str]) -> dict[str, int]:
    """Return the counts, equal ones by name: rows of a query come in any order."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
