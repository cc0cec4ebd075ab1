"""Two models simulated on labelled texts, for what a golden set can show before there is a candidate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gliclass_spark.labels.thresholds import Mask

# Each model misses this share of the labels that hold, and gives wrong ones with this part of their frequency.
MISSES, FALSE_RATE = 0.35, 0.4
# Share of the decisions that the two models make by the same chance.
SHARED = 0.5


def simulate_models(
    rng: np.random.Generator, targets: Mask, frequencies: NDArray[np.float32], excesses: NDArray[np.float32]
) -> tuple[Mask, Mask]:
    """Return the labels that a candidate and a champion give, each (..., texts, labels) as the targets.

    frequencies: (labels,), in [0, 1]. excesses: (labels,), by how much the candidate's error rates exceed the
    champion's.
    """
    chance = rng.random(targets.shape, dtype=np.float32)
    is_shared = rng.random(targets.shape, dtype=np.float32) < SHARED
    own_chance = np.where(is_shared, chance, rng.random(targets.shape, dtype=np.float32))

    def assigned(chances: NDArray[np.float32], more: NDArray[np.float32]) -> Mask:
        labels: Mask = np.where(targets, chances >= MISSES + more, chances < (FALSE_RATE + more) * frequencies)
        return labels

    return assigned(own_chance, excesses), assigned(chance, np.zeros_like(excesses))
