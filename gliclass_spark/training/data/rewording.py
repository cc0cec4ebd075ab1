"""The same labels in other words: so that a model learns what a label means, and not how one set writes it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_FRAMES = (
    "{}",
    "{}.",
    "about {}",
    "it is {}",
    "this is {}",
    "label: {}",
    "category: {}",
    "the topic is {}",
    "this text is {}",
    "this text is about {}",
    "this example is {}",
    "a text labelled {}",
    "The text can be described as {}",
)
_SPELLINGS = (
    str,
    str.lower,
    str.title,
    str.capitalize,
    lambda name: name.replace(" ", "_"),
    lambda name: name.replace(" ", "-"),
)


def reword(labels: Sequence[str], rng: np.random.Generator) -> tuple[str, ...]:
    """Every label in the same frame and the same spelling, both drawn; plain as often as anything else."""
    frame = _FRAMES[int(rng.integers(len(_FRAMES)))]
    spelled = _SPELLINGS[int(rng.integers(len(_SPELLINGS)))]
    return tuple(frame.format(spelled(label)) for label in labels)
