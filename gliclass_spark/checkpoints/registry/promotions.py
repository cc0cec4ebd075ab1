"""Promotions and rollbacks: changes of the aliases champion and previous, in steps that can be repeated.

MLflow moves one alias at a time, and a command may be killed between any two. So a change is first recorded in a tag
of the model: which version becomes the champion, and which the previous one. A command that finds its change recorded
repeats the steps; a rollback goes back from the recorded promotion, whether that was completed or not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from gliclass_spark.config.model_uri import CHALLENGER, CHAMPION, PREVIOUS
from gliclass_spark.errors import ModelNotFoundError

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from gliclass_spark.checkpoints.registry.versions import ModelVersion

# The tag of a version that a champion check has rolled back: JSON of `retraining`, `promoted_at` and `reason`.
ROLLBACK_TAG = "automatic_rollback"
_TAG = "gliclass_spark.last_change"


class ChampionChange(BaseModel):
    """The last change of a model's champion: the versions that become the champion and the previous one.

    at: when it was recorded, in ISO 8601; None for a change that an earlier build recorded.
    """

    model_config = ConfigDict(frozen=True)

    action: Literal["promote", "rollback"]
    champion: int
    previous: int | None = None
    at: str | None = None

    def concerns(self, version: ModelVersion | None) -> bool:
        """Return whether the champion is what it was before or after the change, and not moved by something else."""
        return version is not None and version.number in (self.champion, self.previous)


@dataclass(frozen=True)
class ChampionPromotion:
    """A promotion that is in force: the champion, and the version that it replaced.

    at: when it was recorded, in ISO 8601; None for one that an earlier build recorded.
    """

    champion: ModelVersion
    previous: ModelVersion
    at: str | None


@dataclass(frozen=True)
class Aliases:
    """The aliases of a model whose versions are `versions`, changed through MLflow's client.

    registry: for messages.
    """

    client: MlflowClient
    registry: str
    name: str
    versions: list[ModelVersion]

    def holder(self, alias: str) -> ModelVersion | None:
        """Return the version with the alias, None if there is none."""
        return next((version for version in self.versions if alias in version.aliases), None)

    def set(self, alias: str, number: int) -> None:
        self.client.set_registered_model_alias(self.name, alias, str(number))

    def promote(self, chosen: ModelVersion) -> int:
        """Make the chosen version the champion, and the champion the previous version. Return its number."""
        champion = self.holder(CHAMPION)
        if champion is None or champion.number != chosen.number:
            self._apply(_change("promote", chosen, champion))
        if CHALLENGER in chosen.aliases:
            self.client.delete_registered_model_alias(self.name, CHALLENGER)
        return chosen.number

    def promote_challenger(self) -> int:
        """Promote the challenger. Without one, return the champion if it is the version promoted last."""
        challenger, champion, change = self.holder(CHALLENGER), self.holder(CHAMPION), self._last_change()
        if challenger is not None:
            return self.promote(challenger)
        if champion is not None and change is not None and change.action == "promote":
            return champion.number
        raise ModelNotFoundError(
            f"model {self.name!r} in {self.registry} has no {CHALLENGER}; give the number of the version to promote"
        )

    def rollback(self, chosen: ModelVersion | None) -> int:
        """Make the chosen version the champion again, by default the one before the last promotion.

        Return its number. A rollback that was done already changes nothing.
        """
        champion, change = self.holder(CHAMPION), self._last_change()
        if chosen is not None:
            if champion is None or champion.number != chosen.number:
                self._apply(_change("rollback", chosen, champion))
            return chosen.number
        if change is None or not change.concerns(champion):  # of an earlier build, or aliases that MLflow's page moved
            change = self._swap(champion)
        elif change.action == "promote":
            if change.previous is None:
                raise self._no_previous()
            change = ChampionChange(action="rollback", champion=change.previous, previous=change.champion, at=_now())
        self._apply(change)
        return change.champion

    def rolled_back(self, version: ModelVersion) -> bool:
        """Return whether the last change was a rollback from this version."""
        change = self._last_change()
        return change is not None and change.action == "rollback" and change.previous == version.number

    def promotion(self) -> ChampionPromotion | None:
        """Return the promotion that made the champion what it is; None after a rollback, or if it was the first."""
        champion, change = self.holder(CHAMPION), self._last_change()
        if champion is None or change is None or (change.action, change.champion) != ("promote", champion.number):
            return None
        previous = next((version for version in self.versions if version.number == change.previous), None)
        return None if previous is None else ChampionPromotion(champion, previous, change.at)

    def _swap(self, champion: ModelVersion | None) -> ChampionChange:
        previous = self.holder(PREVIOUS)
        if previous is None or CHAMPION in previous.aliases:
            raise self._no_previous()
        return _change("rollback", previous, champion)

    def _no_previous(self) -> ModelNotFoundError:
        return ModelNotFoundError(
            f"model {self.name!r} in {self.registry} has no version before its champion to go back to; promote a "
            "version by its number"
        )

    def _apply(self, change: ChampionChange) -> None:
        self.client.set_registered_model_tag(self.name, _TAG, change.model_dump_json())
        # First, so that the former champion always has an alias.
        if change.previous is not None:
            self.set(PREVIOUS, change.previous)
        self.set(CHAMPION, change.champion)

    def _last_change(self) -> ChampionChange | None:
        tags: Mapping[str, str] = self.client.get_registered_model(self.name).tags
        try:
            return ChampionChange.model_validate_json(tags[_TAG]) if _TAG in tags else None
        except ValidationError:  # somebody edited it
            return None


def _change(
    action: Literal["promote", "rollback"], chosen: ModelVersion, champion: ModelVersion | None
) -> ChampionChange:
    return ChampionChange(
        action=action, champion=chosen.number, previous=champion.number if champion is not None else None, at=_now()
    )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")
