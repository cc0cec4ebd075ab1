"""Scores of an evaluation in MLflow: a run for each contender, with its figures."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING

from gliclass_spark.training.evaluation.evaluate import Score

if TYPE_CHECKING:
    from gliclass_spark.checkpoints.registry import Registry


def log_scores(
    registry: Registry,
    experiment: str,
    scores: Sequence[Score],
    parameters: Mapping[str, object],
    files: Sequence[Path] = (),
) -> list[str]:
    """Log a run for each contender and number of shots, and return the ids of the runs.

    Metrics: macro_f1, micro_f1 (means over sets and seeds), texts_per_s (median), macro_f1/SET for each set.
    parameters: of the evaluation; contender and shots are added. files: artifacts of each run.
    Raises RegistryError, RegistryUnreachableError.
    """
    by_contender: defaultdict[tuple[str, int], list[Score]] = defaultdict(list)
    for score in scores:
        by_contender[score.contender, score.shots].append(score)
    run_ids = []
    for (contender, shots), of_contender in by_contender.items():
        name = f"{contender}, {shots} examples a label" if shots else f"{contender}, zero-shot"
        with registry.run(experiment, name, {**parameters, "contender": contender, "shots": shots}) as tracked:
            tracked.log_metrics(_metrics(of_contender))
            for file in files:
                tracked.log_artifact(file)
        run_ids.append(tracked.run_id)
    return run_ids


def _metrics(scores: Sequence[Score]) -> dict[str, float]:
    by_set: defaultdict[str, list[Score]] = defaultdict(list)
    for score in scores:
        by_set[score.name].append(score)
    means = {name: fmean(score.macro_f1 for score in seeds) for name, seeds in by_set.items()}
    return {
        "macro_f1": fmean(means.values()),
        "micro_f1": fmean(fmean(score.micro_f1 for score in seeds) for seeds in by_set.values()),
        "texts_per_s": median(score.texts_per_s for score in scores),
        # MLflow refuses other characters in the name of a metric.
        **{f"macro_f1/{re.sub(r'[^A-Za-z0-9_ .:-]', '_', name)}": mean for name, mean in means.items()},
    }
