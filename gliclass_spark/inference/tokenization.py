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
from gliclass_spark.model.prompts.text_tokenizer import Frame, Prompt, TextTokenizer

# Texts are tokenised and sorted in groups of this size: enough to find neighbours of like length, and
# little enough to hold all of their tokens in memory.
_GROUP_TEXTS = 8192
_GROUP_CHARS = 16_000_000


@dataclass(frozen=True)
class ModelInput:
    """What the model reads at once: a window of a text in a frame that asks for some of the labels."""

    window: Sequence[int]
    frame: Frame

    def __len__(self) -> int:
        return len(self.window) + len(self.frame)

    @property
    def ids(self) -> list[int]:
        return self.frame.around(self.window)


@dataclass(frozen=True)
class TokenizedText:
    """One text: what is read of it, as token ids, and how it is asked; or why it can't be.

    token_count: of the whole text; 0 where it could not be tokenised.
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

    def shares(self) -> list[float]:
        """The part of the text that each window stands for, see `Prompt.shares`."""
        return self.prompt.shares(self.token_count) if self.prompt else []


@dataclass(frozen=True)
class TokenizedPart:
    """Neighbouring texts of one batch, in their order.

    ends_batch: whether these are the last texts of their batch.
    seconds: the time that preparing them took.
    """

    texts: list[TokenizedText]
    ends_batch: bool
    seconds: float


def tokenize(
    texts: Sequence[str | None], prompts: Sequence[Prompt | TextError], tokenizer: TextTokenizer
) -> Iterator[TokenizedPart]:
    """Check and tokenise a batch, in as many parts as its size asks for; an empty batch is one empty part.

    prompts: one for each text, or why it can't be asked.
    """
    lengths = [len(text) if isinstance(text, str) else 0 for text in texts]
    for group in text_groups(lengths, _GROUP_TEXTS, _GROUP_CHARS):
        part = slice(group.start, group.stop)
        started = time.perf_counter()
        prepared = _prepared(texts[part], prompts[part], tokenizer)
        yield TokenizedPart(prepared, group.stop == len(texts), time.perf_counter() - started)
    if not lengths:
        yield TokenizedPart([], ends_batch=True, seconds=0.0)


def _prepared(
    texts: Sequence[str | None], prompts: Sequence[Prompt | TextError], tokenizer: TextTokenizer
) -> list[TokenizedText]:
    found: dict[int, TokenizedText] = {}
    readable: dict[int, tuple[str, Prompt]] = {}
    for row, (text, prompt) in enumerate(zip(texts, prompts, strict=True)):
        checked = _checked(text)
        if isinstance(prompt, TextError):
            found[row] = TokenizedText(error=prompt)
        elif isinstance(checked, TextError):
            found[row] = TokenizedText(error=checked)
        else:
            readable[row] = checked, prompt
    read = tokenizer.text_ids([text for text, _ in readable.values()], [prompt for _, prompt in readable.values()])
    for (row, (_, prompt)), ids in zip(readable.items(), read, strict=True):
        count = prompt.token_count(ids)
        found[row] = TokenizedText(prompt, prompt.windows(ids), count) if count else TokenizedText(error=EMPTY_TEXT)
    return [found[row] for row in range(len(texts))]


def _checked(text: object) -> str | TextError:
    """The text, or what is wrong with it before a tokenizer sees it."""
    if not isinstance(text, str):
        return NULL_TEXT  # pandas says null as NaN, too
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
