"""Texts of mixed length from real sentences, equal for equal seeds and installed packages."""

from __future__ import annotations

import hashlib
import re
from importlib import metadata

import numpy as np
from transformers import PreTrainedTokenizerFast

# Words per text: log-normal, as in most corpora, with many short texts and few long ones.
MEDIAN_WORDS, SIGMA, MIN_WORDS, MAX_WORDS = 60, 1.0, 5, 400
_SENTENCE = re.compile(r"[A-Z][A-Za-z ,'()\n-]{30,400}[.!?](?=\s)")
_CORPUS_WORDS = 200_000


def texts(count: int, seed: int) -> list[str]:
    """Return excerpts of the descriptions of the installed packages."""
    words = _words()
    rng = np.random.default_rng(seed)
    lengths = np.clip(rng.lognormal(np.log(MEDIAN_WORDS), SIGMA, count), MIN_WORDS, MAX_WORDS).astype(int)
    starts = rng.integers(0, len(words) - MAX_WORDS, count)
    return [" ".join(words[start : start + length]) for start, length in zip(starts, lengths, strict=True)]


def cut_to_window(corpus: list[str], prompt: str, tokenizer: PreTrainedTokenizerFast, window: int) -> list[str]:
    """Cut each text so that it has room behind the prompt, in `window` tokens: all contenders score the same tokens."""
    cut = []
    lengths = [len(ids) for ids in tokenizer([prompt + text for text in corpus]).input_ids]
    for text, tokens in zip(corpus, lengths, strict=True):
        words = text.split()
        while tokens > window:
            words = words[: len(words) * window // tokens]
            tokens = len(tokenizer(prompt + " ".join(words)).input_ids)
        cut.append(" ".join(words))
    return cut


def digest(corpus: list[str]) -> str:
    """Return a digest of the texts, equal for two results that were measured on the same ones."""
    return hashlib.sha256("\0".join(corpus).encode()).hexdigest()[:16]


def _words() -> list[str]:
    metadata_by_name = {item.metadata["Name"].lower(): item.metadata.json for item in metadata.distributions()}
    words: list[str] = []
    for name in sorted(metadata_by_name):
        for sentence in _SENTENCE.findall(str(metadata_by_name[name].get("description", ""))):
            words += sentence.split()
        if len(words) >= _CORPUS_WORDS:
            break
    if len(words) <= MAX_WORDS:
        raise SystemExit(f"the descriptions of the installed packages have {len(words)} words, too few for a corpus")
    return words
