"""What the gate can detect with a golden set, before there is a candidate."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.labels import LabelSet
from gliclass_spark.labels.thresholds import Mask
from gliclass_spark.retraining.gate.f1_statistics import detectable_gain, f1_gain, texts_for_gains
from gliclass_spark.retraining.gate.simulated_models import FALSE_RATE, MISSES, simulate_models
from gliclass_spark.runs.signal_counts import asks_the_same
from gliclass_spark.training.data.labelled_text import LabelledSet

_DRAWS = 10
# Texts times labels of a draw: of a larger golden set, a part is simulated.
_MAX_CELLS = 1_000_000


@dataclass(frozen=True)
class GoldenPower:
    """What a golden set of this many texts shows.

    label_texts: number of texts of each label of the label set. detectable_gain: the true gain or loss in macro-F1 that
    these texts show in 80% of the cases. texts_for_gain: how many texts would show a gain of 0.01, and so on.
    assumption: where the standard error of the gain, which needs the decisions of two models, is from.
    """

    texts: int
    label_texts: dict[str, int]
    standard_error: float
    detectable_gain: float
    texts_for_gain: dict[str, int]
    assumption: str

    def rare_labels(self, min_texts: int) -> dict[str, int]:
        """Return the labels with fewer than `min_texts` texts, the rarest first."""
        counts = sorted(self.label_texts.items(), key=lambda item: item[1])
        return {label: count for label, count in counts if count < min_texts}


def golden_power(config: RetrainConfig, golden: LabelledSet) -> GoldenPower:
    """Return what the golden set shows, by the last verdict of the same labels in `work`, else by a simulation."""
    targets = label_targets(golden, config.pipeline.label_set)
    texts = len(golden)
    verdict = _last_verdict(config)
    if verdict is not None:
        run_id, comparison = verdict
        standard_error = comparison["standard_error"] * float(np.sqrt(comparison["texts"] / texts))
        assumption = f"by the candidate of {run_id}, on {comparison['texts']:,} texts"
    else:
        standard_error, agreement = _simulate(targets, config.seed)
        assumption = (
            f"for two simulated models that each miss {MISSES:.0%} of the labels, give {FALSE_RATE:.0%} as many wrong "
            f"ones, and agree on all labels of {agreement:.0%} of the texts; those of models that agree more show "
            "smaller gains"
        )
    return GoldenPower(
        texts,
        dict(zip(config.pipeline.label_set.names, targets.sum(axis=0).tolist(), strict=True)),
        standard_error,
        detectable_gain(standard_error),
        texts_for_gains(texts, standard_error),
        assumption,
    )


def label_targets(labelled: LabelledSet, label_set: LabelSet) -> Mask:
    """Return whether each label of the label set holds, (texts, labels). Labels that it lacks are ignored."""
    columns = {name: column for column, name in enumerate(label_set.names)}
    targets = np.zeros((len(labelled), len(label_set)), dtype=bool)
    for row, labels in enumerate(labelled.targets):
        names = [labelled.labels[label] for label in labels]
        targets[row, [columns[name] for name in names if name in columns]] = True
    return targets


def _last_verdict(config: RetrainConfig) -> tuple[str, dict[str, Any]] | None:
    """Return run id and comparison of the latest retraining of the same labels whose models differed."""
    verdicts = []
    for path in Path(config.work).glob("*/gate.json"):
        verdict = json.loads(path.read_text(encoding="utf-8"))
        snapshot = json.loads((path.parent / "snapshot" / "snapshot.json").read_text(encoding="utf-8"))
        comparison = verdict["comparisons"][0]
        # Verdicts of earlier versions have no standard error.
        if asks_the_same(snapshot, config) and comparison.get("standard_error"):
            verdicts.append((snapshot["created_at"], path.parent.name, comparison))
    return max(verdicts, key=lambda each: each[0])[1:] if verdicts else None


def _simulate(targets: Mask, seed: int) -> tuple[float, float]:
    """Return the standard error of the gain, and the share of texts on which both models agree; means of draws."""
    rng = np.random.default_rng(seed)
    texts, labels = targets.shape
    size = min(texts, max(_MAX_CELLS // labels, 1))
    frequencies = targets.mean(axis=0, dtype=np.float32)
    errors, agreements = [], []
    for _ in range(_DRAWS):
        drawn = targets[rng.permutation(texts)[:size]]
        candidate, champion = simulate_models(rng, drawn, frequencies, np.zeros(labels, dtype=np.float32))
        errors.append(float(f1_gain(candidate, champion, drawn).standard_error))
        agreements.append(float((candidate == champion).all(axis=1).mean()))
    return float(np.mean(errors) * np.sqrt(size / texts)), float(np.mean(agreements))
