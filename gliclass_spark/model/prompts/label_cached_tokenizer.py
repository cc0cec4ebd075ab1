"""Inputs of a label-cached model: texts and labels, each alone."""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast

from gliclass_spark.errors import LabelSetError
from gliclass_spark.labels import LabelSet
from gliclass_spark.model.prompts.prompt import Frame, Prompt
from gliclass_spark.model.prompts.text_tokenizer import TextTokenizer


class LabelCachedTokenizer(TextTokenizer):
    """Tokenizes each text and each label as an input of its own."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, max_length: int) -> None:
        super().__init__(tokenizer, max_length)
        self._begin, self._end = self._special_ids("a")

    def prompt(self, label_set: LabelSet) -> Prompt:
        """Build a prompt with one frame: the task prompt and the special tokens.

        Raises LabelSetError if the task prompt leaves no room for a text, if a label can't be encoded, or if there
        are examples, which this architecture can't encode.
        """
        if label_set.examples or label_set.retrieved:
            raise LabelSetError(
                f"label set {label_set.name!r} has examples, which a model that encodes each label alone can't take "
                "beside a text; remove them, or train it on them with `gliclass-spark train`"
            )
        task, task_ids = self._task(label_set)
        room = self._max_length - len(self._begin) - len(self._end)
        if room - len(task_ids) < self._min_text_tokens:
            raise LabelSetError(
                f"the prompt of {label_set.name!r} takes {len(task_ids)} of the model's {self._max_length} tokens, "
                f"of which it must leave {self._min_text_tokens} to the text; shorten it"
            )
        for text in label_set.texts:
            self.label_ids(text)
        frame = Frame(self._begin, self._end, range(len(label_set)), label_set.texts)
        return Prompt(label_set, (frame,), task, task_ids, room)

    def label_ids(self, text: str) -> list[int]:
        """Return the token ids of a label's input.

        Raises LabelSetError if the label holds a control token or does not fit into the window.
        """
        ids = self._ids(text)
        if not self._control_ids.isdisjoint(ids):
            raise LabelSetError(f"label {text!r} holds a control token of the model's tokenizer; reword it")
        input_ids = [*self._begin, *ids, *self._end]
        if len(input_ids) > self._max_length:
            raise LabelSetError(
                f"label {text[:40]!r}... takes {len(input_ids)} tokens, the model takes {self._max_length}; shorten it"
            )
        return input_ids
