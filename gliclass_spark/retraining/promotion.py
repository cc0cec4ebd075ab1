"""Promotion: a retraining's champion and candidate in the model registry."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gliclass_spark import atomic_files
from gliclass_spark.checkpoints.digest import digest_of
from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.checkpoints.registry import ModelVersion, Registry, TrackedRun
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.config.model_uri import CHAMPION
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.errors import ConfigError, RegistryError
from gliclass_spark.runs.history import last_shadow_sequence

if TYPE_CHECKING:
    from gliclass_spark.retraining.steps import OnMetrics, Retraining

_RUN_TAG = "retraining"
_ARTIFACTS = ("gate.json", "gate.html", "snapshot/snapshot.json")


def open_retraining(config: RetrainConfig, run_id: str, on_metrics: OnMetrics) -> Retraining:
    """Return the retraining with this id, new or to be continued; it keeps the champion that it started with.

    Raises ConfigError without a snapshot, ModelNotFoundError if there is no champion yet.
    """
    from gliclass_spark.retraining.steps import SNAPSHOT, Retraining

    folder = config.run_folder(run_id)
    if not (folder / SNAPSHOT / "snapshot.json").is_file():
        raise ConfigError(f"{folder / SNAPSHOT} holds no snapshot; run the step {SNAPSHOT!r} of {run_id!r} first")
    return Retraining(config, folder, run_id, _resolve_champion(config, folder), on_metrics)


def publish(config: RetrainConfig, retraining: Retraining) -> ModelVersion:
    """Log the retraining, register its candidate, promote it if it passed the gate, and return its version.

    Idempotent: a promotion that was rolled back meanwhile stays rolled back. With `gate.shadow` a candidate that passed
    stays the challenger until a shadow run of it is recorded; called again then, it is promoted. Raises RegistryError
    if the champion is no longer the one that the gate compared with.
    """
    registry, name, marker = Registry(config.registry), config.model_name, retraining.folder / "promote.json"
    if marker.exists():
        recorded = json.loads(marker.read_text(encoding="utf-8"))
        version = registry.version(name, str(recorded["version"]))
        if not recorded.get("waits_for_shadow") or _waits_for_shadow(config, retraining):
            return version
    registered = [version for version in registry.versions(name) if version.tags.get(_RUN_TAG) == retraining.run_id]
    version = registered[-1] if registered else _register_candidate(registry, config, retraining)
    rolled_back = registry.was_rolled_back(version)  # after an attempt that ended before it wrote the marker
    if not rolled_back:
        version = registry.set_challenger(name, version)
    waits = _waits_for_shadow(config, retraining)
    is_promoted = bool(retraining.gate()["promoted"]) and not waits
    if is_promoted and not rolled_back:
        champion = registry.version(name, CHAMPION)
        if champion.digest not in (retraining.champion.digest, version.digest):
            raise RegistryError(
                f"the champion of {name!r} is now version {champion.number} ({champion.digest[:12]}), but the "
                f"candidate was compared with {retraining.champion.digest[:12]}; retrain again, under a new run id"
            )
        version = registry.promote(name, str(version.number))
    outcome = {"version": version.number, "promoted": is_promoted, "waits_for_shadow": waits}
    atomic_files.write_text(marker, json.dumps(outcome) + "\n")
    return version


def _waits_for_shadow(config: RetrainConfig, retraining: Retraining) -> bool:
    """Return whether the candidate passed, and is to tag in a shadow run before it is promoted."""
    if not (config.gate.shadow and retraining.gate()["promoted"]):
        return False
    return not last_shadow_sequence(config.pipeline, digest_of(retraining.candidate))


def _resolve_champion(config: RetrainConfig, folder: Path) -> ModelRef:
    path, uri = folder / "champion.json", config.pipeline.model
    if path.exists():
        digest = json.loads(path.read_text(encoding="utf-8"))["digest"]
        return resolve_model(uri, digest, registry=config.registry)
    champion = resolve_model(uri, registry=config.registry)
    # A link fails if the file exists: the first of several processes decides, and none reads a part of the file.
    unfinished = path.with_suffix(f".{os.getpid()}")
    unfinished.write_text(json.dumps({"model": champion.uri, "digest": champion.digest}) + "\n", encoding="utf-8")
    with suppress(FileExistsError):
        os.link(unfinished, path)
    unfinished.unlink()
    return _resolve_champion(config, folder)


def _register_candidate(registry: Registry, config: RetrainConfig, retraining: Retraining) -> ModelVersion:
    verdict = retraining.gate()
    settings = config.model_dump(mode="json", include={"holdout_share", "supervised", "ppo", "gate", "seed"})
    with registry.run(config.model_name, retraining.run_id, dict(_flatten(settings))) as tracked:
        _log(tracked, retraining)
        for file in _ARTIFACTS:
            if (retraining.folder / file).is_file():
                tracked.log_artifact(retraining.folder / file)
        macro_f1 = f"{verdict['comparisons'][0]['candidate']['macro_f1']:.4f}"
        tags = {_RUN_TAG: retraining.run_id, "verdict": _verdict_tag(verdict), "macro_f1": macro_f1}
        return registry.register(config.model_name, retraining.candidate, tracked.run_id, tags)


def _log(tracked: TrackedRun, retraining: Retraining) -> None:
    supervised, ppo, calibration = retraining.supervised(), retraining.ppo(), retraining.calibrate()
    verdict = retraining.gate()
    snapshot = json.loads((retraining.folder / "snapshot" / "snapshot.json").read_text(encoding="utf-8"))
    versions = {f"data.{name}": f"{table['path']}@{table['version']}" for name, table in snapshot["tables"].items()}
    champion = {"champion": retraining.champion.digest, "verdict": _verdict_tag(verdict)}
    tracked.set_tags({**versions, **supervised["data"], **champion})
    tracked.log_metrics({f"evidence.{name}": value for name, value in supervised["evidence"].items()})
    for step, outcome in (("supervised", supervised), ("ppo", ppo)):
        for point in outcome["curve"]:
            metrics = {f"{step}.{key}": value for key, value in point.items() if key != "step"}
            tracked.log_metrics(metrics, int(point["step"]))
    tracked.log_metrics({"calibration.before": calibration["before"], "calibration.after": calibration["after"]})
    for comparison in verdict["comparisons"]:
        name = comparison["name"].replace(" ", "_")
        tracked.log_metrics({f"{name}.macro_f1": comparison["candidate"]["macro_f1"]})
    for key, name in (("reward", "reward_difference"), ("set_reward", "document_reward_difference")):
        if verdict.get(key) is not None:  # a verdict of an earlier version has no set_reward
            tracked.log_metrics({f"newest_feedback.{name}": verdict[key]["difference"]})
    tracked.log_metrics(
        {f"forgetting.{row['name']}": row["champion"] - row["candidate"] for row in verdict["forgetting"]}
    )


def _verdict_tag(verdict: Mapping[str, Any]) -> str:
    return "promoted" if verdict["promoted"] else "refused"


def _flatten(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Keys of nested settings joined by dots, and their values."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
