"""Texts of mixed length out of real sentences, the same ones for the same seed and the same installed packages."""

from __future__ import annotations

import hashlib
import re
from importlib import metadata

import numpy as np

# Words to a text: log-normal, as in most corpora, many short ones and few long ones.
MEDIAN_WORDS, SIGMA, FEWEST_WORDS, MOST_WORDS = 60, 1.0, 5, 400
_SENTENCE = re.compile(r"[A-Z][A-Za-z ,'()\n-]{30,400}[.!?](?=\s)")
_ENOUGH_WORDS = 200_000


def texts(count: int, seed: int) -> list[str]:
    """Stretches of the sentences in the descriptions of the installed packages."""
    words = _words()
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(np.log(MEDIAN_WORDS), SIGMA, count), FEWEST_WORDS, MOST_WORDS).astype(int)
    starts = rng.integers(0, len(words) - MOST_WORDS, count)
    return [" ".join(words[start : start + length]) for start, length in zip(starts, lengths, strict=True)]


def digest(found: list[str]) -> str:
    """Tells whether two results were measured on the same texts."""
    return hashlib.sha256("\0".join(found).encode()).hexdigest()[:16]


def _words() -> list[str]:
    described = {item.metadata["Name"].lower(): item.metadata.json for item in metadata.distributions()}
    words: list[str] = []
    for name in sorted(described):
        for sentence in _SENTENCE.findall(str(described[name].get("description", ""))):
            words += sentence.split()
        if len(words) >= _ENOUGH_WORDS:
            break
    if len(words) <= MOST_WORDS:
        raise SystemExit("the installed packages describe themselves in too few sentences to make texts from")
    return words
