"""Label templates: the same labels worded another way, so that a model doesn't learn how one set writes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_TEMPLATES = (
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
    """Return the labels in one template and one spelling, both drawn uniformly; the plain ones are among them."""
    template = _TEMPLATES[int(rng.integers(len(_TEMPLATES)))]
    spell = _SPELLINGS[int(rng.integers(len(_SPELLINGS)))]
    return tuple(template.format(spell(label)) for label in labels)
