"""The champion check: a champion that harms by feedback on its own decisions is rolled back before anything is trained.

The champion is compared with the version that it replaced by the rule of the gate's veto. The order of what is written
makes it safe to be killed: first the version's tag, which says of which promotion it is, then the rollback, then the
outcome file. A later check completes what the tag has announced; and as a promotion has a time, it knows a version that
was promoted again by hand, which is never rolled back a second time.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from math import pi
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gliclass_spark import atomic_files
from gliclass_spark.checkpoints.files import CALIBRATION
from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.checkpoints.registry import ModelVersion, Registry
from gliclass_spark.checkpoints.registry.promotions import ROLLBACK_TAG, ChampionPromotion
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.config.model_uri import CHAMPION
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.errors import CheckpointError, ConfigError, ModelNotFoundError
from gliclass_spark.labels import LabelSet, read_calibration
from gliclass_spark.retraining.gate.harm_tests import harm_tests
from gliclass_spark.retraining.gate.reward_comparison import HarmRule, RewardDifference, with_propensities
from gliclass_spark.retraining.gate.set_rewards import set_propensities
from gliclass_spark.training.data.logged_decisions import LoggedDecisions, read_decisions

if TYPE_CHECKING:
    from gliclass_spark.retraining.gate.gate_comparison import Contender

CHAMPION_CHECK = "champion_check"
_FEEDBACK = "feedback on the champion's decisions"


@dataclass(frozen=True)
class ChampionCheck:
    """The outcome of a check, the contents of champion_check.json.

    harm: whether the champion is shown to be worse than the version that it replaced. rolled_back: whether it was
    rolled back for that, so that nothing is trained. message: what was measured, in one line. champion,
    version, previous: the digest and the number of the champion, and the number of the other; None without a
    promotion. reward, set_reward: the estimated difference, champion - previous, by rewards of labels and of documents;
    None without one. decisions: labels and documents with feedback and a propensity that the champion has decided.
    look: how many checks of this champion had evidence, with this one; 0 if it had none.
    """

    harm: bool
    rolled_back: bool
    message: str
    champion: str
    version: int | None = None
    previous: int | None = None
    reward: RewardDifference | None = None
    set_reward: RewardDifference | None = None
    decisions: int = 0
    look: int = 0


def check_champion(config: RetrainConfig, folder: Path, run_id: str, champion: ModelRef) -> Mapping[str, Any]:
    """Check the champion that this retraining started with, and return the outcome; one that is recorded is returned.

    folder: that of the retraining, with its snapshot. Raises RegistryError.
    """
    recorded = recorded_check(folder)
    if recorded is not None:
        return recorded
    decisions = read_decisions(folder / "snapshot", champion.digest)
    known = with_propensities(decisions)
    count = int((known.judged | known.rewarded).sum() + (~np.isnan(set_propensities(decisions))).sum())
    check = _check(config, decisions, run_id, champion.digest)
    outcome = asdict(replace(check, decisions=count))
    atomic_files.write_text(folder / f"{CHAMPION_CHECK}.json", json.dumps(outcome, indent=2) + "\n")
    return outcome


def recorded_check(folder: Path) -> Mapping[str, Any] | None:
    """Return the outcome of the check in a retraining's folder, None if it was not done."""
    path = folder / f"{CHAMPION_CHECK}.json"
    if not path.is_file():
        return None
    outcome: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return outcome


def was_rolled_back(folder: Path) -> bool:
    """Return whether the check of this retraining has rolled the champion back."""
    outcome = recorded_check(folder)
    return outcome is not None and bool(outcome["rolled_back"])


def refuse_after_rollback(folder: Path) -> None:
    """Raise ConfigError if the check of this retraining has rolled the champion back: nothing is to be trained."""
    if was_rolled_back(folder):
        raise ConfigError(
            f"{folder / CHAMPION_CHECK}.json: this retraining has rolled the champion back, so it trains nothing; "
            "retrain under a new run id"
        )


def harm_rule(config: RetrainConfig, look: int) -> HarmRule:
    """Return the rule of the gate's veto for a check of one champion, with the least sample size of `rollback`.

    A champion is checked by every retraining, and each time by more feedback. Look k has 6 / (pi^2 k^2) of the error,
    so that all looks together have that of `gate.confidence` (alpha spending; Lan and DeMets, Biometrika 70, 1983).
    """
    error = (1.0 - config.gate.confidence) * 6.0 / (pi * look) ** 2
    return HarmRule(config.gate.max_reward_loss, 1.0 - error, config.rollback.min_effective_decisions)


def looks_at(config: RetrainConfig, digest: str) -> int:
    """Return how many recorded checks of this champion had evidence."""
    checks = (json.loads(path.read_text(encoding="utf-8")) for path in Path(config.work).glob("*/champion_check.json"))
    return max((check.get("look", 0) for check in checks if check["champion"] == digest), default=0)


def why_not_checked(promotion: ChampionPromotion | None, name: str) -> str | None:
    """Return why the champion of the model is not compared with another version; None if it is."""
    if promotion is None:
        return f"no check: the champion of {name!r} replaced no other version, or came back by a rollback"
    earlier = _rollback_tag(promotion.champion)
    if earlier is not None and earlier["promoted_at"] != promotion.at:
        return (
            f"no check: version {promotion.champion.number} was rolled back by {earlier['retraining']} and promoted "
            "again; it is not rolled back twice"
        )
    return None


def _check(config: RetrainConfig, decisions: LoggedDecisions, run_id: str, digest: str) -> ChampionCheck:
    registry, name = Registry(config.registry), config.model_name
    completed = _complete_rollback(registry, name, run_id, digest)
    if completed is not None:
        return completed
    promotion = registry.last_promotion(name)
    reason = why_not_checked(promotion, name)
    if promotion is None or reason is not None:
        return ChampionCheck(False, False, str(reason), digest)
    if promotion.champion.digest != digest:
        return ChampionCheck(False, False, "no check: the champion changed since this retraining started", digest)
    announced = _rollback_tag(promotion.champion)
    if announced is None:
        check = _compare(config, decisions, promotion)
        if not (check.harm and config.rollback.automatic):
            return check
        tag = {"retraining": run_id, "promoted_at": promotion.at, "reason": check.message}
        registry.set_tag(promotion.champion, ROLLBACK_TAG, json.dumps(tag))
    else:  # by a check that was killed
        check = _of_promotion(promotion, announced["reason"], harm=True)
    registry.rollback(name, str(promotion.previous.number))
    return replace(check, rolled_back=True)


def _compare(config: RetrainConfig, decisions: LoggedDecisions, promotion: ChampionPromotion) -> ChampionCheck:
    """Return whether the champion is shown to be worse on decisions that it made."""
    numbers = f"version {promotion.champion.number} against version {promotion.previous.number}"
    try:
        refs = [_resolve(config, version) for version in (promotion.champion, promotion.previous)]
    except (ModelNotFoundError, CheckpointError) as error:
        return _of_promotion(promotion, f"no check of {numbers}: {error}")
    if not decisions.texts:
        return _of_promotion(promotion, f"no evidence about {numbers}: there is no {_FEEDBACK}")
    chosen, previously_chosen = (
        _contender(ref, decisions.label_set).assign(decisions.texts, decisions.label_set) for ref in refs
    )
    look = looks_at(config, promotion.champion.digest) + 1
    tests = harm_tests(harm_rule(config, look), decisions, chosen, previously_chosen, _FEEDBACK)
    rewards = {test.per: test.difference for test in tests}
    return _of_promotion(
        promotion,
        "; ".join(test.describe(numbers, "it is harm") for test in tests),
        harm=any(test.shows_harm for test in tests),
        reward=rewards.get("decision"),
        set_reward=rewards.get("document"),
        look=look if any(test.missing is None for test in tests) else 0,
    )


def _of_promotion(promotion: ChampionPromotion, message: str, *, harm: bool = False, **facts: Any) -> ChampionCheck:
    champion, previous = promotion.champion, promotion.previous
    return ChampionCheck(harm, False, message, champion.digest, champion.number, previous.number, **facts)


def _complete_rollback(registry: Registry, name: str, run_id: str, digest: str) -> ChampionCheck | None:
    """Complete the rollback of a check that was killed in it. Return its outcome if it was this retraining's."""
    versions = registry.versions(name)
    for version in versions:
        tag = _rollback_tag(version)
        if tag is None or not registry.was_rolled_back(version):
            continue
        is_interrupted = CHAMPION in version.aliases  # recorded, and killed before the alias was moved
        champion = registry.rollback(name) if is_interrupted else registry.version(name, CHAMPION)
        if tag["retraining"] == run_id and version.digest == digest:
            return ChampionCheck(True, True, tag["reason"], digest, version.number, champion.number)
    return None


def _rollback_tag(version: ModelVersion) -> dict[str, Any] | None:
    if ROLLBACK_TAG not in version.tags:
        return None
    tag: dict[str, Any] = json.loads(version.tags[ROLLBACK_TAG])
    return tag


def _resolve(config: RetrainConfig, version: ModelVersion) -> ModelRef:
    return resolve_model(version.uri, version.digest or None, registry=config.registry)


def _contender(ref: ModelRef, label_set: LabelSet) -> Contender:
    # Imported here: it takes seconds, and most checks have nothing to compare.
    from gliclass_spark.inference.engine import Engine
    from gliclass_spark.retraining.gate.gate_comparison import Contender

    return Contender(Engine.from_pretrained(ref), read_calibration(ref.folder / CALIBRATION, label_set))
