"""Text tokenizer: token ids of texts, in which no text can forge a control token."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

from gliclass_spark.errors import LabelSetError
from gliclass_spark.labels import LabelSet
from gliclass_spark.model.prompts.prompt import Prompt

LABEL_TOKEN = "<<LABEL>>"
SEP_TOKEN = "<<SEP>>"
EXAMPLE_TOKEN = "<<EXAMPLE>>"

# Labels, examples and task prompt must leave 1/4 of a window to the text: with less, a long text would need many
# windows that hold little besides the prompt.
_MIN_TEXT_SHARE = 0.25


class TextTokenizer(ABC):
    """Base of the architectures' tokenizers: builds prompts and encodes texts.

    A text is only ever text: where the tokenizer would see a control token in it (`<<LABEL>>`, `[SEP]`, ...), its
    characters are tokenized as plain characters instead.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, max_length: int) -> None:
        self._max_length = max_length
        # A copy without truncation and padding: both are decided here, and the full length is reported.
        self._backend = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._backend.no_truncation()
        self._backend.no_padding()
        self._unknown_id: int | None = tokenizer.unk_token_id
        self._control_ids = self._collect_control_ids(tokenizer)
        self._plain_backend = _without_added_tokens(self._backend, self._control_ids)

    @property
    def _min_text_tokens(self) -> int:
        """Tokens of each window that are reserved for the text."""
        return int(self._max_length * _MIN_TEXT_SHARE)

    @abstractmethod
    def prompt(self, label_set: LabelSet) -> Prompt:
        """Build the prompt of a label set. Raises LabelSetError for a label set that the model can't encode."""

    def text_ids(self, texts: Sequence[str], prompts: Iterable[Prompt]) -> list[list[int]]:
        """Return the token ids of each text behind its prompt's task prompt, not truncated.

        Raises UnicodeEncodeError for a text that is not valid Unicode.
        """
        prefixes = [prompt.text_prefix for _, prompt in zip(texts, prompts, strict=False)]
        prefixed = [prefix + text for prefix, text in zip(prefixes, texts, strict=True)]
        encodings = self._backend.encode_batch_fast(prefixed, add_special_tokens=False)
        text_ids = []
        for prefix, text, encoding in zip(prefixes, texts, encodings, strict=True):
            # The separator is part of the frame's head already.
            ids = encoding.ids[1:] if prefix.startswith(SEP_TOKEN) else encoding.ids
            if not self._control_ids.isdisjoint(ids):
                ids = self._plain_ids(prefix.removeprefix(SEP_TOKEN) + text)
            text_ids.append(ids)
        return text_ids

    def _plain_ids(self, text: str) -> list[int]:
        """Tokenize control tokens in a text as plain characters."""
        ids = self._plain_backend.encode(text, add_special_tokens=False).ids
        # A vocabulary may still hold a control token as an ordinary piece: it becomes the unknown token.
        plain = [self._unknown_id if token in self._control_ids else token for token in ids]
        return [token for token in plain if token is not None]

    def _ids(self, text: str) -> tuple[int, ...]:
        return tuple(self._backend.encode(text, add_special_tokens=False).ids)

    def _has_control_token(self, text: str) -> bool:
        return not self._control_ids.isdisjoint(self._ids(text))

    def _task(self, label_set: LabelSet) -> tuple[str, tuple[int, ...]]:
        """Return the task prompt and its token ids. Raises LabelSetError if it holds a control token."""
        task = label_set.prompt or ""
        if self._has_control_token(task):
            raise LabelSetError(f"prompt {task[:40]!r} holds a control token of the model's tokenizer; reword it")
        return task, self._ids(task)

    def _special_ids(self, text: str) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return the special tokens before and behind every input: ([CLS], [SEP]) for BERT, ((), </s>) for T5."""
        with_special = self._backend.encode(text, add_special_tokens=True).ids
        without = self._backend.encode(text, add_special_tokens=False).ids
        start = with_special.index(without[0])
        return tuple(with_special[:start]), tuple(with_special[start + len(without) :])

    def _collect_control_ids(self, tokenizer: PreTrainedTokenizerFast) -> frozenset[int]:
        prompt_tokens = {LABEL_TOKEN, SEP_TOKEN, EXAMPLE_TOKEN}
        added = self._backend.get_added_tokens_decoder().items()
        # Added tokens that are not special are text: runs of blanks in the GPT-NeoX vocabularies, say.
        control = {index for index, token in added if token.special or token.content in prompt_tokens}
        return frozenset(control | set(tokenizer.all_special_ids)) - {self._unknown_id}


def _without_added_tokens(backend: Tokenizer, token_ids: frozenset[int]) -> Tokenizer:
    document = json.loads(backend.to_str())
    document["added_tokens"] = [token for token in document["added_tokens"] if token["id"] not in token_ids]
    return Tokenizer.from_str(json.dumps(document))
