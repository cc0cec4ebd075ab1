"""Inputs of the uni-encoder: labels and text in one sequence of token ids."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain, groupby, pairwise
from operator import itemgetter

from transformers import PreTrainedTokenizerFast

from gliclass_spark.errors import CheckpointError, LabelSetError
from gliclass_spark.labels import Example, LabelSet, Piece, retrieval_pieces
from gliclass_spark.model.prompts.prompt import Frame, Prompt
from gliclass_spark.model.prompts.text_tokenizer import EXAMPLE_TOKEN, LABEL_TOKEN, SEP_TOKEN, TextTokenizer


class UniEncoderTokenizer(TextTokenizer):
    """Puts labels and text into one input.

    Labels that leave too little of the window to the text are split into groups: neighbours of the label set
    together, as few groups as leave half of the window to the text, sizes differing by one label at most. The groups
    do not depend on the text, so a label is always encoded beside the same other labels.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, prompt_first: bool, max_length: int) -> None:
        super().__init__(tokenizer, max_length)
        self._prompt_first = prompt_first
        for token in (LABEL_TOKEN, SEP_TOKEN):
            if self._backend.token_to_id(token) is None:
                raise CheckpointError(f"the tokenizer has no token {token!r}; give the folder of a GLiClass checkpoint")

    def prompt(self, label_set: LabelSet) -> Prompt:
        """Build the prompt, a frame for each group of labels.

        Raises LabelSetError if labels, prompt or examples hold control tokens, or leave no room for a text.
        """
        labels = [self._label(text) for text in label_set.texts]
        task, task_ids = self._task(label_set)
        if self._prompt_first:
            return self._build(label_set, labels, task=task, task_ids=task_ids)
        return self._build(label_set, labels, behind=task_ids)

    def _build(
        self,
        label_set: LabelSet,
        labels: Sequence[tuple[int, ...]],
        *,
        before: tuple[int, ...] = (),
        behind: tuple[int, ...] = (),
        task: str = "",
        task_ids: tuple[int, ...] = (),
    ) -> Prompt:
        """Build a frame for each group of labels: `before`, the labels, a separator, `behind`.

        labels: token ids of each label. task: is tokenized together with each text.
        """
        separator = self._ids(SEP_TOKEN)
        begin, end = self._special_ids(SEP_TOKEN)
        retrieved, examples = self._retrieved(label_set), self._examples(label_set)
        fixed_tokens = sum(map(len, (begin, before, separator, behind, task_ids, retrieved, examples, end)))
        frames = []
        for group in self._label_groups([len(ids) for ids in labels], fixed_tokens, label_set):
            label_part = (*before, *chain.from_iterable(labels[index] for index in group), *separator, *behind)
            head, tail = (begin + label_part, retrieved) if self._prompt_first else (begin, retrieved + label_part)
            label_texts = tuple(label_set.texts[index] for index in group)
            frames.append(Frame(head, tail + examples + end, group, label_texts))
        room = self._max_length - max(map(len, frames))
        text_prefix = SEP_TOKEN + task if self._prompt_first else ""
        return Prompt(label_set, tuple(frames), text_prefix, task_ids, room)

    def _label(self, text: str) -> tuple[int, ...]:
        ids = self._ids(LABEL_TOKEN + text)
        if self._count_control_tokens(ids) != 1:
            raise LabelSetError(f"label {text!r} holds a control token of the model's tokenizer; reword it")
        return ids

    def _examples(self, label_set: LabelSet) -> tuple[int, ...]:
        """Return the examples' token ids, in the format that the published models were trained with."""
        if not label_set.examples:
            return ()
        if self._backend.token_to_id(EXAMPLE_TOKEN) is None:
            raise LabelSetError(
                f"the tokenizer has no token {EXAMPLE_TOKEN!r}: this model was not trained to read examples; "
                "remove them, or train it on them with `gliclass-spark train`"
            )
        formatted = [self._format_example(example) for example in label_set.examples]
        return self._ids("".join(formatted) + SEP_TOKEN)

    def _retrieved(self, label_set: LabelSet) -> tuple[int, ...]:
        """Tokenize retrieved examples as one string, in which only markers of this tokenizer are control tokens."""
        ids: list[int] = []
        pieces = ((self._marker_id(piece), piece.text) for piece in retrieval_pieces(label_set.retrieved))
        for marker_id, group in groupby(pieces, key=itemgetter(0)):
            texts = [text for _, text in group]
            ids += self._plain_ids("".join(texts)) if marker_id is None else [marker_id] * len(texts)
        return tuple(ids)

    def _marker_id(self, piece: Piece) -> int | None:
        token_id: int | None = self._backend.token_to_id(piece.text) if piece.is_marker else None
        return token_id

    def _format_example(self, example: Example) -> str:
        text = f"{EXAMPLE_TOKEN}{example.text} \nLabels:\n {', '.join(example.labels)}"
        if self._count_control_tokens(self._ids(text)) != 1:
            raise LabelSetError(
                f"example {example.text[:40]!r} holds a control token of the model's tokenizer; reword it"
            )
        return text

    def _count_control_tokens(self, ids: Sequence[int]) -> int:
        return sum(token in self._control_ids for token in ids)

    def _label_groups(self, lengths: Sequence[int], fixed_tokens: int, label_set: LabelSet) -> list[range]:
        """Split labels of these lengths (tokens) into groups that share an input.

        fixed_tokens: tokens of every input besides labels and text.
        """
        max_label_tokens = self._max_length - self._min_text_tokens - fixed_tokens
        if max(lengths) > max_label_tokens:
            raise LabelSetError(
                f"label {label_set.texts[lengths.index(max(lengths))][:40]!r} of {label_set.name!r} takes "
                f"{max(lengths)} tokens, its prompt and examples {fixed_tokens}; "
                f"{self._max_length - self._min_text_tokens} of the model's {self._max_length} tokens are for both, "
                "the others for the text; shorten them"
            )
        ends = [0, *accumulate(lengths)]
        max_labels = label_set.labels_per_pass or len(lengths)
        if len(lengths) <= max_labels and ends[-1] <= max_label_tokens:
            return [range(len(lengths))]
        # Each window of a long text is encoded with each group. Windows times groups is smallest where text and labels
        # have equal room.
        budget = max(max(lengths), min(max_label_tokens, (self._max_length - fixed_tokens) // 2))
        min_count = max(-(-len(lengths) // max_labels), -(-ends[-1] // budget))
        for count in range(min_count, len(lengths) + 1):
            cuts = [number * len(lengths) // count for number in range(count + 1)]
            groups = [range(start, stop) for start, stop in pairwise(cuts)]
            if all(ends[group.stop] - ends[group.start] <= budget for group in groups):
                return groups
        raise AssertionError("groups of one label fit")
