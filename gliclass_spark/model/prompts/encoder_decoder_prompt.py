"""Labels and texts as two inputs, that an encoder and a decoder read."""

from __future__ import annotations

from itertools import chain

from gliclass_spark.errors import LabelSetError
from gliclass_spark.labels import LabelSet
from gliclass_spark.model.prompts.text_tokenizer import SEP_TOKEN, Frame, Prompt
from gliclass_spark.model.prompts.uni_encoder_prompt import UniEncoderTokenizer


class EncoderDecoderTokenizer(UniEncoderTokenizer):
    """The task prompt stands behind the labels, examples stand behind the text."""

    def prompt(self, label_set: LabelSet) -> Prompt:
        labels = [self._label(text) for text in label_set.texts]
        begin, end = self._frame(SEP_TOKEN)
        _, task = self._task(label_set)
        behind = self._ids(SEP_TOKEN) + task + end
        tail = self._examples(label_set) + end
        room = self._max_length - len(begin) - len(tail)
        if room < self._text_room:
            raise LabelSetError(
                f"the examples of {label_set.name!r} take {len(tail)} of the model's {self._max_length} tokens, of "
                f"which they must leave {self._text_room} to the text; shorten them"
            )
        frames = [
            Frame(
                begin,
                tail,
                group,
                tuple(label_set.texts[place] for place in group),
                beside=(*begin, *chain.from_iterable(labels[place] for place in group), *behind),
            )
            for group in self._groups([len(ids) for ids in labels], len(begin) + len(behind), label_set)
        ]
        return Prompt(label_set, tuple(frames), "", (), room)
