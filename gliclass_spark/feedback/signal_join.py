"""How several signals on one decision are joined: the rules of `feedback.verdicts` as one SQL statement.

Spark runs it for the snapshot of a retraining, and DataFusion for `retrain --check`, which needs no Spark. So it holds
only what both understand alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from gliclass_spark.feedback.verdicts import VERDICTS, Verdict

Resolve = Literal["newest", "majority"]

# The text is part of the key: a decision about another text is another decision.
DECISION_KEY = ("doc_id", "label_set_hash", "label", "content_hash")
# What a decision is known by, beside whether it gave the label.
_LOGGED = ("score", "propensity", "model_digest", "source", "labels", "scores", "propensities")

# Which explicit signals decide. With a majority, a tie is decided by the newest.
_DECIDES = {
    "newest": "is_newest",
    "majority": "case when votes_for = votes_against then is_newest "
    "else is_vote and coalesce(stated = cast(votes_for > votes_against as int), false) end",
}


def join_statement(
    signals: str, resolve: Resolve = "newest", key: Sequence[str] = DECISION_KEY, logged: Sequence[str] = _LOGGED
) -> str:
    """Return the query that makes one row per decision from `signals`: a table of the columns of `feedback`.

    Its columns: `key`, target, reward, chosen and the columns `logged` of the latest signal that counts, first_at and
    observed_at (the times of the first and the latest signal), contradicting, and the counts `signals` and `late`.
    """
    decision, source = ", ".join(key), ", ".join((*key, "source"))
    counted = ", ".join(f"case when counts then {name} end as {name}" for name in ("chosen", *logged))
    return f"""
-- Of the signals on a document, only those about its latest labels are current.
with stating as (
    select *, {_stated()} as stated, {_is_explicit()} as is_explicit,
        label is not null or coalesce(labels = first_value(labels) over (
            partition by {decision}
            order by case when chosen is null then 1 else 0 end, observed_at desc, source desc, verdict
        ), false) as is_current
    from {signals}
), explicit_ones as (
    select *, is_explicit and is_current as is_opinion,
        max(case when is_explicit and is_current then observed_at end) over (partition by {decision}) as newest_at,
        max(case when is_explicit and is_current then observed_at end) over (partition by {source}) as newest_of_source
    from stating
-- A source has one vote, its latest; two that contradict each other at the same time count on both sides.
), voting as (
    select *, is_opinion and observed_at = newest_at as is_newest,
        is_opinion and observed_at = newest_of_source as is_vote,
        row_number() over (partition by {source}, is_opinion, stated order by observed_at desc) = 1 as is_first
    from explicit_ones
), counted_votes as (
    select *,
        count(case when is_vote and is_first and stated = 1 then 1 end) over (partition by {decision}) as votes_for,
        count(case when is_vote and is_first and stated = 0 then 1 end) over (partition by {decision}) as votes_against
    from voting
), deciding as (
    select *, {_DECIDES[resolve]} as decides from counted_votes
-- Explicit signals that contradict each other cancel, and the implicit ones count.
), checked as (
    select *, coalesce(
            max(case when decides then stated end) over (partition by {decision})
            > min(case when decides then stated end) over (partition by {decision}), false
        ) as contradicting
    from deciding
), counting as (
    select *, case when newest_at is not null and not contradicting then decides else is_current and not is_explicit end
        as counts
    from checked
), ranked as (
    select {decision}, contradicting, {counted},
        max(case when counts and label is not null then stated end) over (partition by {decision}) as target,
        avg(case when counts then reward end) over (partition by {decision}) as reward,
        min(observed_at) over (partition by {decision}) as first_at,
        max(observed_at) over (partition by {decision}) as observed_at,
        count(*) over (partition by {decision}) as signals,
        count(case when chosen is null then 1 end) over (partition by {decision}) as late,
        row_number() over (
            partition by {decision}
            order by case when counts then 0 else 1 end, observed_at desc, source desc, verdict,
                case when chosen then 0 else 1 end
        ) as rank
    from counting
)
select {decision}, target, reward, chosen, {", ".join(logged)}, first_at, observed_at, contradicting, signals, late
from ranked where rank = 1
"""  # noqa: S608 - of names in this module alone


def _is_explicit() -> str:
    return f"verdict in ({_names(verdict for verdict in VERDICTS if verdict.explicit)})"


def _stated() -> str:
    """Return SQL for what one signal states: 1 if the label holds, or the document's labels are right; 0, or null."""
    explicit = [verdict for verdict in VERDICTS if verdict.explicit]
    holds, holds_not, rated = (
        _names(verdict for verdict in explicit if verdict.target == target) for target in (1, 0, None)
    )
    return (
        f"case when verdict in ({holds}) then 1 when verdict in ({holds_not}) then 0 "
        f"when verdict in ({rated}) and reward <> 0 then cast(chosen = (reward > 0) as int) end"
    )


def _names(verdicts: Iterable[Verdict]) -> str:
    return ", ".join(f"'{verdict.name}'" for verdict in verdicts)
