"""Texts become token ids, and stay texts: no text is ever read as one of the model's control tokens."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from gliclass_spark.errors import LabelSetError
from gliclass_spark.labels import LabelSet

LABEL_TOKEN = "<<LABEL>>"
SEP_TOKEN = "<<SEP>>"
EXAMPLE_TOKEN = "<<EXAMPLE>>"

# The part of a window that labels, examples and a task prompt must leave to the text: with less of it
# a long text would be read in many windows that hold little else than the question.
_TEXT_SHARE = 4

# Tokens that neighbouring windows of a long text share, so that no sentence is only seen cut in two.
_OVERLAP_TOKENS = 64


@dataclass(frozen=True)
class Frame:
    """What stands around a window of a text, to ask for some of a label set's labels.

    labels: which of them; texts: what the model reads for each; beside: the token ids of a second input,
    for a model that reads labels and text apart.
    """

    head: tuple[int, ...]
    tail: tuple[int, ...]
    labels: range
    texts: tuple[str, ...]
    beside: tuple[int, ...] = ()

    def __len__(self) -> int:
        """Its own tokens."""
        return len(self.head) + len(self.tail)

    def around(self, window: Sequence[int]) -> list[int]:
        """The model's input."""
        return [*self.head, *window, *self.tail]


@dataclass(frozen=True)
class Prompt:
    """How every text of one label set is asked: each of its windows in each frame.

    `lead` is the string that is tokenised in front of a text: what stands before a text decides how
    its first word is cut. `task` are the ids of the task prompt in it, without any text behind.
    `max_text_tokens` is the room for both in the fullest frame.
    """

    label_set: LabelSet
    frames: tuple[Frame, ...]
    lead: str
    task: tuple[int, ...]
    max_text_tokens: int

    def windows(self, text_ids: Sequence[int]) -> list[Sequence[int]]:
        """The parts that a text is read in, the task prompt before each: one if it fits.

        They are of one length, and neighbours share some tokens.
        """
        if len(text_ids) <= self.max_text_tokens or self.label_set.joined_by == "cut":
            return [text_ids[: self.max_text_tokens]]
        # Not the task's own ids before the first: its last word may go on in the text's first.
        task, text = text_ids[: len(self.task)], text_ids[len(self.task) :]
        return [[*task, *text[place.start : place.stop]] for place in self._places(len(text))]

    def shares(self, token_count: int) -> list[float]:
        """The part of a text of so many tokens that each of its windows stands for; together they are 1.

        A token that two windows share counts half in each.
        """
        places = self._places(token_count)
        readers = np.zeros(token_count)
        for place in places:
            readers[place.start : place.stop] += 1
        return [float((1 / readers[place.start : place.stop]).sum()) / token_count for place in places]

    def _places(self, token_count: int) -> list[range]:
        """Where the windows of a text stand in it, the task prompt left out."""
        room = self.max_text_tokens - len(self.task)
        if token_count <= room:
            return [range(token_count)]
        overlap = min(_OVERLAP_TOKENS, room // 4)
        count = -(-(token_count - overlap) // (room - overlap))
        size = -(-(token_count + (count - 1) * overlap) // count)
        starts = [place * (token_count - size) // (count - 1) for place in range(count)]
        return [range(start, start + size) for start in starts]

    def token_count(self, text_ids: Sequence[int]) -> int:
        """How many tokens a text adds to the task prompt; 0 if it holds nothing that the tokenizer reads.

        A text whose first word continues the prompt's last one adds at least one.
        """
        added = len(text_ids) - len(self.task)
        if added > 0:
            return added
        return 0 if tuple(text_ids) == self.task else 1


class TextTokenizer(ABC):
    """Turns texts into token ids, for one tokenizer.

    A text is only ever text: where the tokenizer would read a control token in it (`<<LABEL>>`,
    `[SEP]`, ...), its characters are tokenised as plain characters instead.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, max_length: int) -> None:
        self._max_length = max_length
        # A copy without truncation and padding: both are decided here, and the full length is reported.
        self._backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._backend.no_truncation()
        self._backend.no_padding()
        self._unknown_id: int | None = tokenizer.unk_token_id
        self._control_ids = self._find_control_ids(tokenizer)
        self._plain = _without_added_tokens(self._backend, self._control_ids)

    @property
    def _text_room(self) -> int:
        """The tokens that a window must keep for the text."""
        return self._max_length // _TEXT_SHARE

    @abstractmethod
    def prompt(self, label_set: LabelSet) -> Prompt:
        """What stands around each text of a label set. Raises LabelSetError for one that can't be asked."""

    def text_ids(self, texts: Sequence[str], prompts: Iterable[Prompt]) -> list[list[int]]:
        """The token ids of each text, asked by its prompt: untruncated, the prompt's task before it included.

        Raises UnicodeEncodeError for a text that is not valid Unicode.
        """
        leads = [prompt.lead for _, prompt in zip(texts, prompts, strict=False)]
        read = [lead + text for lead, text in zip(leads, texts, strict=True)]
        found = []
        for lead, text, encoding in zip(
            leads, texts, self._backend.encode_batch_fast(read, add_special_tokens=False), strict=True
        ):
            # A separator stands in the prompt's head already.
            ids = encoding.ids[1:] if lead.startswith(SEP_TOKEN) else encoding.ids
            if not self._control_ids.isdisjoint(ids):
                ids = self._plain_ids(lead.removeprefix(SEP_TOKEN) + text)
            found.append(ids)
        return found

    def _plain_ids(self, text: str) -> list[int]:
        ids = self._plain.encode(text, add_special_tokens=False).ids
        # A vocabulary may still hold a control token as a piece of its own: then it reads as unknown.
        plain = [self._unknown_id if token in self._control_ids else token for token in ids]
        return [token for token in plain if token is not None]

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self._backend.encode(text, add_special_tokens=False).ids)

    def _reads_control(self, text: str) -> bool:
        return not self._control_ids.isdisjoint(self._ids(text))

    def _task(self, label_set: LabelSet) -> tuple[str, tuple[int, ...]]:
        """The task prompt and its ids. Raises LabelSetError if it holds a control token."""
        task = label_set.prompt or ""
        if self._reads_control(task):
            raise LabelSetError(f"prompt {task[:40]!r} holds a control token of the model's tokenizer; reword it")
        return task, self._ids(task)

    def _frame(self, middle: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What the tokenizer puts around every input: ([CLS], [SEP]) for BERT, ((), </s>) for T5."""
        framed = self._backend.encode(middle, add_special_tokens=True).ids
        inside = self._backend.encode(middle, add_special_tokens=False).ids
        start = framed.index(inside[0])
        return tuple(framed[:start]), tuple(framed[start + len(inside) :])

    def _find_control_ids(self, tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
        ours = {LABEL_TOKEN, SEP_TOKEN, EXAMPLE_TOKEN}
        added = self._backend.get_added_tokens_decoder().items()
        # Added tokens that are not special are text: runs of blanks in the GPT-NeoX vocabularies, say.
        control = {index for index, token in added if token.special or token.content in ours}
        return frozenset(control | set(tokenizer.all_special_ids)) - {self._unknown_id}


def _without_added_tokens(backend: Tokenizer, dropped: frozenset[int]) -> Tokenizer:
    document = json.loads(backend.to_str())
    document["added_tokens"] = [token for token in document["added_tokens"] if token["id"] not in dropped]
    return Tokenizer.from_str(json.dumps(document))
