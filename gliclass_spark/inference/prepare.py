"""From texts to what the model reads, or to the reason why it can't."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gliclass_spark.inference.batching import text_groups
from gliclass_spark.inference.results import (
    EMPTY_TEXT,
    MAX_TEXT_CHARS,
    NULL_TEXT,
    TEXT_TOO_LONG,
    UNDECODABLE_TEXT,
    TextError,
)
from gliclass_spark.model.text_tokenizer import Prompt, TextTokenizer

# Texts are tokenised and sorted in groups of this size: enough to find neighbours of like length, and
# little enough to hold all of their tokens in memory.
_GROUP_TEXTS = 8192
_GROUP_CHARS = 16_000_000


@dataclass(frozen=True)
class Prepared:
    """Neighbouring texts of one batch, in their order: each list has one entry for each text.

    inputs: the token ids that the model reads; empty where the text has an error.
    token_counts: tokens of the whole text; 0 where it could not be tokenised.
    ends_batch: whether these are the last texts of their batch.
    seconds: the time that preparing them took.
    """

    inputs: list[list[int]]
    token_counts: list[int]
    errors: list[TextError | None]
    ends_batch: bool
    seconds: float


def prepare(texts: Sequence[str | None], tokenizer: TextTokenizer, prompt: Prompt) -> Iterator[Prepared]:
    """Check and tokenise a batch, in as many parts as its size asks for; an empty batch is one empty part."""
    if isinstance(texts, str):
        raise TypeError(f"texts must be a list of texts, found the text {texts[:40]!r}; put it into a list")
    lengths = [len(text) if isinstance(text, str) else 0 for text in texts]
    for group in text_groups(lengths, _GROUP_TEXTS, _GROUP_CHARS):
        part = texts[group.start : group.stop]
        yield _part(part, tokenizer, prompt, ends_batch=group.stop == len(texts))
    if not lengths:
        yield Prepared([], [], [], ends_batch=True, seconds=0.0)


def _part(texts: Sequence[str | None], tokenizer: TextTokenizer, prompt: Prompt, *, ends_batch: bool) -> Prepared:
    started = time.perf_counter()
    errors = [_check(text) for text in texts]
    inputs: list[list[int]] = [[] for _ in texts]
    token_counts = [0] * len(texts)
    readable = [row for row, error in enumerate(errors) if error is None]
    found = tokenizer.text_ids([texts[row] or "" for row in readable], prompt) if readable else []
    for row, ids in zip(readable, found, strict=True):
        token_counts[row] = prompt.token_count(ids)
        if token_counts[row] > 0:
            inputs[row] = prompt.wrap(ids)
        else:
            errors[row] = EMPTY_TEXT
    return Prepared(inputs, token_counts, errors, ends_batch, time.perf_counter() - started)


def _check(text: object) -> TextError | None:
    """What is wrong with a text before a tokenizer sees it."""
    if not isinstance(text, str):
        return NULL_TEXT  # pandas says null as NaN, too
    if not text or text.isspace():
        return EMPTY_TEXT
    if len(text) > MAX_TEXT_CHARS:
        return TEXT_TOO_LONG
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return UNDECODABLE_TEXT
    return None
