"""Inputs of the bi-encoders: texts alone, or behind one token for each label."""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast

from gliclass_spark.errors import LabelSetError
from gliclass_spark.labels import LabelSet
from gliclass_spark.model.prompts.label_cached_tokenizer import LabelCachedTokenizer
from gliclass_spark.model.prompts.prompt import EncodedExample, Prompt
from gliclass_spark.model.prompts.text_tokenizer import LABEL_TOKEN
from gliclass_spark.model.prompts.uni_encoder_tokenizer import UniEncoderTokenizer


class BiEncoderTokenizer(LabelCachedTokenizer):
    """Tokenizes each text as an input of its own, behind the task prompt.

    label_tokenizer: tokenizes the labels, for their encoder.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerFast, label_tokenizer: LabelCachedTokenizer, max_length: int
    ) -> None:
        super().__init__(tokenizer, max_length)
        self._label_tokenizer = label_tokenizer

    def label_ids(self, text: str) -> list[int]:
        """Return the token ids of a label's input, by the label tokenizer."""
        return self._label_tokenizer.label_ids(text)

    def _examples(self, prompt: Prompt) -> tuple[EncodedExample, ...]:
        if prompt.label_set.examples:
            raise LabelSetError(
                f"label set {prompt.label_set.name!r} has examples, which a bi-encoder can't take; remove them, or "
                "train it on them with `gliclass-spark train`"
            )
        return ()

    def _task(self, label_set: LabelSet) -> tuple[str, tuple[int, ...]]:
        task, _ = super()._task(label_set)
        # The published pipeline puts a blank between task prompt and text.
        spaced = f"{task} " if task else ""
        return spaced, self._ids(spaced)


class FusedBiEncoderTokenizer(UniEncoderTokenizer):
    """Puts the task prompt, a token for each label and the text into one input.

    label_tokenizer: tokenizes the labels, for their encoder.

    Where the text comes first, its last word and the prompt's first one stay two words. The published pipeline runs
    them together unless the text ends in a blank or a full stop.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        label_tokenizer: LabelCachedTokenizer,
        *,
        prompt_first: bool,
        max_length: int,
    ) -> None:
        super().__init__(tokenizer, prompt_first=prompt_first, max_length=max_length)
        self._label_tokenizer = label_tokenizer

    def prompt(self, label_set: LabelSet) -> Prompt:
        """Build the prompt, one label token for each label. Raises LabelSetError as the uni-encoder's does."""
        for text in label_set.texts:
            self._label_tokenizer.label_ids(text)
        task, _ = self._task(label_set)
        before = self._ids(f"{task} ") if task else ()
        return self._build(label_set, [self._ids(LABEL_TOKEN)] * len(label_set), before=before)
