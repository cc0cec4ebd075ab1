"""Inputs of the encoder-decoders: text and labels, one for the encoder and one for the decoder."""

from __future__ import annotations

from itertools import chain

from gliclass_spark.errors import LabelSetError
from gliclass_spark.labels import LabelSet
from gliclass_spark.model.prompts.prompt import Frame, Prompt
from gliclass_spark.model.prompts.text_tokenizer import SEP_TOKEN
from gliclass_spark.model.prompts.uni_encoder_tokenizer import UniEncoderTokenizer


class EncoderDecoderTokenizer(UniEncoderTokenizer):
    """Puts the task prompt behind the labels, and examples behind the text."""

    def prompt(self, label_set: LabelSet) -> Prompt:
        """Build the prompt, a frame for each group of labels, with these as its `label_ids`.

        Raises LabelSetError if labels, prompt or examples hold control tokens or take too much of the window.
        """
        labels = [self._label(text) for text in label_set.texts]
        begin, end = self._special_ids(SEP_TOKEN)
        _, task_ids = self._task(label_set)
        behind = self._ids(SEP_TOKEN) + task_ids + end
        tail = self._examples(label_set) + end
        room = self._max_length - len(begin) - len(tail)
        if room < self._min_text_tokens:
            raise LabelSetError(
                f"the examples of {label_set.name!r} take {len(tail)} of the model's {self._max_length} tokens, of "
                f"which they must leave {self._min_text_tokens} to the text; shorten them"
            )
        frames = [
            Frame(
                begin,
                tail,
                group,
                tuple(label_set.texts[index] for index in group),
                label_ids=(*begin, *chain.from_iterable(labels[index] for index in group), *behind),
            )
            for group in self._label_groups([len(ids) for ids in labels], len(begin) + len(behind), label_set)
        ]
        return Prompt(label_set, tuple(frames), text_prefix="", task_ids=(), max_text_tokens=room)
