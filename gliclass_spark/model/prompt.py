"""Labels and text become one sequence of token ids. The label prefix is built once for a label set."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerFast

from gliclass_spark.errors import CheckpointError, LabelSetError
from gliclass_spark.labels import LabelSet
from gliclass_spark.model.text_tokenizer import LABEL_TOKEN, MIN_TEXT_TOKENS, SEP_TOKEN, Prompt, TextTokenizer


class PromptBuilder(TextTokenizer):
    """Puts labels and text into one input, for one tokenizer."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, prompt_first: bool, max_length: int) -> None:
        super().__init__(tokenizer, max_length)
        self._prompt_first = prompt_first
        for token in (LABEL_TOKEN, SEP_TOKEN):
            if self._backend.token_to_id(token) is None:
                raise CheckpointError(f"the tokenizer has no token {token!r}; give the folder of a GLiClass checkpoint")

    def prompt(self, label_set: LabelSet) -> Prompt:
        """Tokenise the labels. Raises LabelSetError if they hold control tokens or leave no room for a text."""
        labels = "".join(LABEL_TOKEN + text for text in label_set.texts) + SEP_TOKEN
        asked = self._ids(labels)
        if sum(token in self._control_ids for token in asked) != len(label_set) + 1:
            culprit = next((text for text in label_set.texts if self._reads_control(text)), label_set.texts[0])
            raise LabelSetError(f"label {culprit!r} holds a control token of the model's tokenizer; reword it")
        begin, end = self._frame(SEP_TOKEN)
        task, task_ids = self._task(label_set)
        room = self._room(begin, asked, task_ids, end)
        if room < MIN_TEXT_TOKENS:
            raise LabelSetError(
                f"the {len(label_set)} labels of {label_set.name!r} and their prompt take {self._max_length - room} "
                f"of the model's {self._max_length} tokens, which leaves no room for a text; "
                "ask fewer labels, or shorten their descriptions"
            )
        if self._prompt_first:
            return Prompt((*begin, *asked), end, SEP_TOKEN + task, task_ids, room + len(task_ids))
        return Prompt(begin, (*asked, *task_ids, *end), "", (), room)

    def _room(self, *parts: Sequence[int]) -> int:
        return self._max_length - sum(map(len, parts))
