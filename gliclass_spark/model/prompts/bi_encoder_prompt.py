"""What a bi-encoder reads of texts: plain, or behind one token for each label."""

from __future__ import annotations

from transformers import PreTrainedTokenizerFast

from gliclass_spark.labels import LabelSet
from gliclass_spark.model.architectures.label_cached import LabelCachedTokenizer
from gliclass_spark.model.prompts.text_tokenizer import LABEL_TOKEN, Prompt
from gliclass_spark.model.prompts.uni_encoder_prompt import UniEncoderTokenizer


class BiEncoderTokenizer(LabelCachedTokenizer):
    """Texts, each an input of its own behind the task prompt. `labels` reads the labels."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, labels: LabelCachedTokenizer, max_length: int) -> None:
        super().__init__(tokenizer, max_length)
        self._labels = labels

    def label_ids(self, text: str) -> list[int]:
        return self._labels.label_ids(text)

    def _task(self, label_set: LabelSet) -> tuple[str, tuple[int, ...]]:
        task, _ = super()._task(label_set)
        # So the published pipeline joins them.
        spaced = f"{task} " if task else ""
        return spaced, self._ids(spaced)


class FusedBiEncoderTokenizer(UniEncoderTokenizer):
    """The task prompt, a token for each label and the text in one input. `labels` reads the labels.

    Where the text stands first, its last word and the prompt's first one stay two words. The published
    pipeline runs them together unless the text ends in a blank or a full stop.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerFast,
        labels: LabelCachedTokenizer,
        *,
        prompt_first: bool,
        max_length: int,
    ) -> None:
        super().__init__(tokenizer, prompt_first=prompt_first, max_length=max_length)
        self._labels = labels

    def prompt(self, label_set: LabelSet) -> Prompt:
        for text in label_set.texts:
            self._labels.label_ids(text)
        task, _ = self._task(label_set)
        before = self._ids(f"{task} ") if task else ()
        return self._framed(label_set, [self._ids(LABEL_TOKEN)] * len(label_set), before=before)
