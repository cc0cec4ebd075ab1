"""Inputs of a label-cached model: texts, labels and examples, each alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import repeat

from transformers import PreTrainedTokenizerFast

from gliclass_spark.errors import LabelSetError
from gliclass_spark.labels import LabelSet
from gliclass_spark.model.prompts.prompt import EncodedExample, Frame, Prompt
from gliclass_spark.model.prompts.text_tokenizer import TextTokenizer

# Of a label. With fewer, nothing is left when one is held out.
MIN_EXAMPLES = 2


class LabelCachedTokenizer(TextTokenizer):
    """Tokenizes each text and each label as an input of its own."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, max_length: int) -> None:
        super().__init__(tokenizer, max_length)
        self._begin, self._end = self._special_ids("a")

    def prompt(self, label_set: LabelSet) -> Prompt:
        """Build a prompt with one frame: the task prompt and the special tokens.

        Raises LabelSetError if the task prompt leaves no room for a text, if a label can't be encoded, if too
        few labels have examples, or if there are retrieved examples.
        """
        if label_set.retrieved:
            raise LabelSetError(
                f"label set {label_set.name!r} has retrieved examples, which a model that encodes each text alone "
                "can't take; remove them, or give `examples` of every label"
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
        prompt = Prompt(label_set, (frame,), task, task_ids, room)
        return replace(prompt, frames=(replace(frame, examples=self._examples(prompt)),))

    def _examples(self, prompt: Prompt) -> tuple[EncodedExample, ...]:
        """Return the examples as the model reads texts, of a long one the first window.

        Raises LabelSetError if there are examples, but fewer than MIN_EXAMPLES of more than half of the labels.
        """
        label_set = prompt.label_set
        if not label_set.examples:
            return ()
        counts = Counter(name for example in label_set.examples for name in example.labels)
        lacking = [name for name in label_set.names if counts[name] < MIN_EXAMPLES]
        if len(lacking) > len(label_set) / 2 or len(lacking) > len(label_set) - 2:
            raise LabelSetError(
                f"{len(lacking)} of the {len(label_set)} labels of {label_set.name!r} have fewer than {MIN_EXAMPLES} "
                f"examples, among them {lacking[0]!r}; this model needs {MIN_EXAMPLES} examples of two labels or more, "
                "and of half of them; add some, or remove all examples"
            )
        [frame] = prompt.frames
        text_ids = self.text_ids([example.text for example in label_set.examples], repeat(prompt))
        positions = {name: position for position, name in enumerate(label_set.names)}
        return tuple(
            EncodedExample(
                tuple(frame.input_ids(ids[: prompt.max_text_tokens])), tuple(positions[name] for name in example.labels)
            )
            for ids, example in zip(text_ids, label_set.examples, strict=True)
        )

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
