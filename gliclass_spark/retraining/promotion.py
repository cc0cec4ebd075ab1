"""A retraining beside the registry: which champion it begins with, and what becomes of its candidate."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.checkpoints.registry import ModelVersion, Registry
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.config.model_uri import CHAMPION
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.errors import ConfigError, RegistryError

if TYPE_CHECKING:
    from gliclass_spark.retraining.steps import OnMetrics, Retraining

_RUN_TAG = "retraining"


def ask_registry(config: RetrainConfig) -> None:
    """From now on this process asks the registry that the configuration names."""
    if config.registry is not None:
        os.environ["MLFLOW_TRACKING_URI"] = config.registry


def retraining(config: RetrainConfig, run_id: str, on_metrics: OnMetrics) -> Retraining:
    """The retraining of this id, begun or gone on with. Its champion stays the one that it began with.

    Raises ConfigError without a snapshot; ModelNotFoundError if there is no champion yet.
    """
    from gliclass_spark.retraining.steps import SNAPSHOT, Retraining

    folder = config.run_folder(run_id)
    if not (folder / SNAPSHOT / "snapshot.json").is_file():
        raise ConfigError(f"{folder / SNAPSHOT} holds no snapshot; run the step {SNAPSHOT!r} of {run_id!r} first")
    return Retraining(config, folder, _champion(config, folder), on_metrics)


def publish(config: RetrainConfig, run_id: str, done: Retraining) -> ModelVersion:
    """Log the retraining, register its candidate, and promote it if the gate let it pass.

    Done again, it changes nothing: a promotion that was rolled back meanwhile stays rolled back. Raises
    RegistryError if the champion is no longer the one that the gate compared with.
    """
    registry, name, marker = Registry(config.registry), config.model_name, done.folder / "promote.json"
    if marker.exists():
        return registry.version(name, str(json.loads(marker.read_text(encoding="utf-8"))["version"]))
    made = [each for each in registry.versions(name) if each.tags.get(_RUN_TAG) == run_id]
    version = registry.set_challenger(name, made[-1] if made else _registered(registry, config, run_id, done))
    if done.gate()["promoted"]:
        champion = registry.version(name, CHAMPION)
        if champion.digest not in (done.champion.digest, version.digest):
            raise RegistryError(
                f"the champion of {name!r} is now version {champion.number} ({champion.digest[:12]}), but the "
                f"candidate was compared with {done.champion.digest[:12]}; retrain again, under a new run id"
            )
        version = registry.promote(name, str(version.number))
    marker.write_text(json.dumps({"version": version.number}) + "\n", encoding="utf-8")
    return version


def _champion(config: RetrainConfig, folder: Path) -> ModelRef:
    path = folder / "champion.json"
    if path.exists():
        return resolve_model(config.pipeline.model, json.loads(path.read_text(encoding="utf-8"))["digest"])
    found = resolve_model(config.pipeline.model)
    # The first of several processes decides, and no one reads half of it.
    unfinished = path.with_suffix(f".{os.getpid()}")
    unfinished.write_text(json.dumps({"model": found.uri, "digest": found.digest}) + "\n", encoding="utf-8")
    with suppress(FileExistsError):
        os.link(unfinished, path)
    unfinished.unlink()
    return _champion(config, folder)


def _registered(registry: Registry, config: RetrainConfig, run_id: str, done: Retraining) -> ModelVersion:
    verdict, snapshot = done.gate(), json.loads((done.folder / "snapshot" / "snapshot.json").read_text("utf-8"))
    settings = config.model_dump(mode="json", include={"holdout_share", "supervised", "ppo", "gate", "seed"})
    with registry.run(config.model_name, run_id, _flat(settings)) as tracked:
        versions = {f"data.{table}": f"{at['path']}@{at['version']}" for table, at in snapshot["tables"].items()}
        tracked.set_tags(
            {**versions, **done.supervised()["data"], "champion": done.champion.digest, "verdict": _word(verdict)}
        )
        tracked.log_metrics({f"evidence.{name}": value for name, value in done.supervised()["evidence"].items()})
        for step, outcome in (("supervised", done.supervised()), ("ppo", done.ppo())):
            for point in outcome["curve"]:
                metrics = {f"{step}.{key}": value for key, value in point.items() if key != "step"}
                tracked.log_metrics(metrics, int(point["step"]))
        tracked.log_metrics(
            {"calibration.before": done.calibrate()["before"], "calibration.after": done.calibrate()["after"]}
        )
        for each in verdict["comparisons"]:
            place = each["name"].replace(" ", "_")
            tracked.log_metrics({f"{place}.macro_f1": each["candidate"]["macro_f1"]})
        tracked.log_metrics(
            {f"forgotten.{each['name']}": each["champion"] - each["candidate"] for each in verdict["forgotten"]}
        )
        for file in ("gate.json", "gate.html", "snapshot/snapshot.json"):
            if (done.folder / file).is_file():
                tracked.log_artifact(done.folder / file)
        macro_f1 = f"{verdict['comparisons'][0]['candidate']['macro_f1']:.4f}"
        tags = {_RUN_TAG: run_id, "verdict": _word(verdict), "macro_f1": macro_f1}
        return registry.register(config.model_name, done.candidate, tracked.run_id, tags)


def _word(verdict: Mapping[str, Any]) -> str:
    return "promoted" if verdict["promoted"] else "refused"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    found: dict[str, object] = {}
    for key, value in settings.items():
        found |= _flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found
