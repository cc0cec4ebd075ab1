"""What a retraining will read, estimated from its configuration and its data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gliclass_spark.config.retraining import RetrainConfig

CALIBRATION_ROWS = 2000
# Beyond these, the training repeats what it has learned, or hardly sees its data.
_MAX_PASSES, _MIN_PASSES = 10.0, 0.5
_RECOMMENDED_PASSES = 3


@dataclass(frozen=True)
class StepCost:
    """What a step reads: `texts`, counting repetitions, of this many `distinct` ones.

    updates: optimizer steps of a training; None for a step that only scores texts. With every update of PPO, its texts
    are read again.
    """

    step: str
    updates: int | None
    texts: int
    distinct: int

    @property
    def passes(self) -> float:
        """How many times each text is read, on average."""
        return self.texts / self.distinct if self.distinct else 0.0


def estimate_costs(
    config: RetrainConfig, documents: int, golden: int, replay: int, evaluated: int
) -> tuple[StepCost, ...]:
    """Return what each step reads.

    documents: number of judged documents to train on. golden, replay: texts of these sets. evaluated: texts of the
    retention sets and held-out documents.
    """
    return tuple(_costs(config, documents, golden, replay, evaluated))


def passes_note(config: RetrainConfig, cost: StepCost) -> str | None:
    """Return what to change if the supervised training reads its documents too often or hardly at all; else None."""
    if not cost.distinct or _MIN_PASSES <= cost.passes <= _MAX_PASSES:
        return None
    length = f"steps: {cost.updates}" if config.supervised.passes is None else f"passes: {config.supervised.passes:g}"
    if cost.passes > _MAX_PASSES:
        read = f"reads each of the {cost.distinct:,} judged documents {cost.passes:.0f} times"
    else:
        read = f"reads {cost.passes:.0%} of the {cost.distinct:,} judged documents"
    return (
        f"supervised training {read} ({length}); write `passes: {_RECOMMENDED_PASSES}` under `supervised` instead, so "
        "that it is as long as the feedback is large"
    )


def _costs(config: RetrainConfig, documents: int, golden: int, replay: int, evaluated: int) -> Iterator[StepCost]:
    supervised, ppo = config.supervised, config.ppo
    steps = supervised.step_count(documents, bool(replay))
    yield StepCost("supervised", steps, round(steps * supervised.documents_of_step(documents, bool(replay))), documents)
    replay_share = supervised.replay_share if documents else 1.0
    if replay:
        yield StepCost("supervised, replay", steps, round(steps * supervised.texts * replay_share), replay)
    if ppo is not None and config.pipeline.label_set.multi_label:
        replayed = (1.0 - ppo.logged_share) * replay_share if replay else 0.0
        texts = ppo.steps * ppo.epochs * min(ppo.texts, documents)
        yield StepCost("ppo", ppo.steps * ppo.epochs, round(texts * (1.0 - replayed)), documents)
    yield StepCost("calibrate", None, min(golden, CALIBRATION_ROWS), golden)
    # By both models.
    yield StepCost("gate", None, 2 * (golden + evaluated), golden + evaluated)
