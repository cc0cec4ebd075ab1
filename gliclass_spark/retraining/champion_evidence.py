"""What a champion check would have to decide by, counted without Spark and without a model."""

from __future__ import annotations

from dataclasses import dataclass

from gliclass_spark.checkpoints.registry import Registry
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.errors import ModelNotFoundError, RegistryError
from gliclass_spark.retraining.champion_check import why_not_checked
from gliclass_spark.runs.signal_counts import DecisionCount, count_decisions


@dataclass(frozen=True)
class ExpectedCheck:
    """What the next retraining's champion check would do, in one line, and the counts that it follows from.

    compares: whether it would compare the champion with the version before it. version, previous: their numbers, None
    without a promotion. promoted_at: in ISO 8601, None if it is unknown.
    """

    message: str
    compares: bool = False
    version: int | None = None
    previous: int | None = None
    promoted_at: str | None = None
    decisions: int = 0
    effective_sample_size: float = 0.0


def expected_check(config: RetrainConfig) -> ExpectedCheck:
    """Return what the check would do. A registry that can't be read is a message, too. Raises TableError."""
    name, needed = config.model_name, config.rollback.min_effective_decisions
    try:
        promotion = Registry(config.registry).last_promotion(name)
    except (RegistryError, ModelNotFoundError) as error:
        return ExpectedCheck(f"unknown: {error}")
    reason = why_not_checked(promotion, name)
    if promotion is None or reason is not None:
        return ExpectedCheck(str(reason))
    champion, previous = promotion.champion.number, promotion.previous.number
    counts = count_decisions(config.pipeline, promotion.champion.digest)
    compares = counts.may_suffice(needed)
    since = f", promoted at {promotion.at}" if promotion.at else ""
    result = f"version {champion}{since}, {_consequence(config, counts, previous, compares)}"
    return ExpectedCheck(
        result, compares, champion, previous, promotion.at, counts.decisions, counts.effective_sample_size
    )


def _consequence(config: RetrainConfig, counts: DecisionCount, previous: int, compares: bool) -> str:
    amount = (
        f"{counts.decisions:,} decisions of it have feedback and a propensity, effective sample size about "
        f"{counts.effective_sample_size:.0f}"
    )
    if counts.documents:
        amount += f", and {counts.documents:,} documents have one reward for all of their labels"
    if not compares:
        return (
            f"would not be compared with version {previous}: {amount}, at least "
            f"{config.rollback.min_effective_decisions} are needed (rollback.min_effective_decisions)"
        )
    action = f"rolled back to version {previous}" if config.rollback.automatic else "reported (rollback.automatic)"
    return f"would be compared with version {previous}, and {action} if that shows harm: {amount}"
