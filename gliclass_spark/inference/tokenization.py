"""Tokenization: from texts to the model's inputs, or to the error of a text that has none."""

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
from gliclass_spark.model.prompts.prompt import Frame, Prompt
from gliclass_spark.model.prompts.text_tokenizer import TextTokenizer

# Texts are tokenized and bucketed by length in groups of this size: enough texts to find others of like length and to
# fill a GPU, few enough that it gets the first ones soon, and that all of their tokens fit into memory.
_GROUP_TEXTS = 2048
_GROUP_CHARS = 16_000_000


@dataclass(frozen=True)
class ModelInput:
    """One input of the model: a window of a text in a frame, which holds a group of the labels."""

    window: Sequence[int]
    frame: Frame

    def __len__(self) -> int:
        """Return its number of tokens, without padding."""
        return len(self.window) + len(self.frame)

    @property
    def input_ids(self) -> list[int]:
        """Token ids, without padding."""
        return self.frame.input_ids(self.window)


@dataclass(frozen=True)
class TokenizedText:
    """One text: its prompt and its windows of token ids, or the error that it has instead.

    token_count: tokens of the text, cut or not; 0 if it could not be tokenized.
    """

    prompt: Prompt | None = None
    windows: Sequence[Sequence[int]] = ()
    token_count: int = 0
    error: TextError | None = None

    @property
    def inputs(self) -> list[ModelInput]:
        """Each window in each frame, window by window."""
        frames = self.prompt.frames if self.prompt else ()
        return [ModelInput(window, frame) for window in self.windows for frame in frames]

    @property
    def input_count(self) -> int:
        """How many inputs it has."""
        return len(self.windows) * len(self.prompt.frames) if self.prompt else 0

    def window_shares(self) -> list[float]:
        """Return each window's share of the text, see `Prompt.window_shares`."""
        return self.prompt.window_shares(self.token_count) if self.prompt else []


@dataclass(frozen=True)
class TokenizedPart:
    """Consecutive texts of one batch.

    ends_batch: whether these are the last texts of their batch.
    seconds: time spent on tokenizing them.
    """

    texts: list[TokenizedText]
    ends_batch: bool
    seconds: float


def tokenize(
    texts: Sequence[str | None], prompts: Sequence[Prompt | TextError], tokenizer: TextTokenizer
) -> Iterator[TokenizedPart]:
    """Check and tokenize a batch, split into parts of bounded size; an empty batch yields one empty part.

    prompts: one for each text, or the error of a text whose labels are invalid.
    """
    lengths = [len(text) if isinstance(text, str) else 0 for text in texts]
    for group in text_groups(lengths, _GROUP_TEXTS, _GROUP_CHARS):
        rows = slice(group.start, group.stop)
        started = time.perf_counter()
        tokenized = _tokenized(texts[rows], prompts[rows], tokenizer)
        yield TokenizedPart(tokenized, group.stop == len(texts), time.perf_counter() - started)
    if not lengths:
        yield TokenizedPart([], ends_batch=True, seconds=0.0)


def _tokenized(
    texts: Sequence[str | None], prompts: Sequence[Prompt | TextError], tokenizer: TextTokenizer
) -> list[TokenizedText]:
    rows: dict[int, TokenizedText] = {}
    valid: dict[int, tuple[str, Prompt]] = {}
    for row, (text, prompt) in enumerate(zip(texts, prompts, strict=True)):
        checked = _checked(text)
        if isinstance(prompt, TextError):
            rows[row] = TokenizedText(error=prompt)
        elif isinstance(checked, TextError):
            rows[row] = TokenizedText(error=checked)
        else:
            valid[row] = checked, prompt
    text_ids = tokenizer.text_ids([text for text, _ in valid.values()], [prompt for _, prompt in valid.values()])
    for (row, (_, prompt)), ids in zip(valid.items(), text_ids, strict=True):
        count = prompt.token_count(ids)
        rows[row] = TokenizedText(prompt, prompt.windows(ids), count) if count else TokenizedText(error=EMPTY_TEXT)
    return [rows[row] for row in range(len(texts))]


def _checked(text: object) -> str | TextError:
    """Return the text, or the error that makes it unfit for a tokenizer."""
    if not isinstance(text, str):
        return NULL_TEXT  # pandas represents null as NaN, too
    if not text or text.isspace():
        return EMPTY_TEXT
    if len(text) > MAX_TEXT_CHARS:
        return TEXT_TOO_LONG
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            return UNDECODABLE_TEXT
    return text
