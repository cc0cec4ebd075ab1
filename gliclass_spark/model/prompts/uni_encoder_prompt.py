"""Labels and text become one sequence of token ids. What stands around the texts is built once for a label set."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, chain, groupby, pairwise
from operator import itemgetter

from transformers import PreTrainedTokenizerFast

from gliclass_spark.errors import CheckpointError, LabelSetError
from gliclass_spark.labels import Example, LabelSet, Piece, retrieval_pieces
from gliclass_spark.model.prompts.text_tokenizer import (
    EXAMPLE_TOKEN,
    LABEL_TOKEN,
    SEP_TOKEN,
    Frame,
    Prompt,
    TextTokenizer,
)


class UniEncoderTokenizer(TextTokenizer):
    """Puts labels and text into one input, for one tokenizer.

    Labels that leave too little of the window to the text are asked in groups: neighbours of the
    label set together, as few groups as leave half of the window to the text, of one size but for a
    label. So a label stands beside the same others whatever the text is.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, prompt_first: bool, max_length: int) -> None:
        super().__init__(tokenizer, max_length)
        self._prompt_first = prompt_first
        for token in (LABEL_TOKEN, SEP_TOKEN):
            if self._backend.token_to_id(token) is None:
                raise CheckpointError(f"the tokenizer has no token {token!r}; give the folder of a GLiClass checkpoint")

    def prompt(self, label_set: LabelSet) -> Prompt:
        """Tokenise all but the texts.

        Raises LabelSetError if labels, prompt or examples hold control tokens, or leave no room for a text.
        """
        labels = [self._label(text) for text in label_set.texts]
        task, task_ids = self._task(label_set)
        if self._prompt_first:
            return self._framed(label_set, labels, task=task, task_ids=task_ids)
        return self._framed(label_set, labels, behind=task_ids)

    def _framed(
        self,
        label_set: LabelSet,
        labels: Sequence[tuple[int, ...]],
        *,
        before: tuple[int, ...] = (),
        behind: tuple[int, ...] = (),
        task: str = "",
        task_ids: tuple[int, ...] = (),
    ) -> Prompt:
        """One frame for each group of labels: what stands before them, they, a separator, and what stands behind it.

        task: what is tokenised with each text.
        """
        separator = self._ids(SEP_TOKEN)
        begin, end = self._frame(SEP_TOKEN)
        retrieved, examples = self._retrieved(label_set), self._examples(label_set)
        fixed = sum(map(len, (begin, before, separator, behind, task_ids, retrieved, examples, end)))
        groups = self._groups([len(ids) for ids in labels], fixed, label_set)
        frames = []
        for group in groups:
            asked = (*before, *chain.from_iterable(labels[place] for place in group), *separator, *behind)
            head, tail = (begin + asked, retrieved) if self._prompt_first else (begin, retrieved + asked)
            texts = tuple(label_set.texts[place] for place in group)
            frames.append(Frame(head, tail + examples + end, group, texts))
        room = self._max_length - max(map(len, frames))
        lead = SEP_TOKEN + task if self._prompt_first else ""
        return Prompt(label_set, tuple(frames), lead, task_ids, room)

    def _label(self, text: str) -> tuple[int, ...]:
        ids = self._ids(LABEL_TOKEN + text)
        if self._control_tokens(ids) != 1:
            raise LabelSetError(f"label {text!r} holds a control token of the model's tokenizer; reword it")
        return ids

    def _examples(self, label_set: LabelSet) -> tuple[int, ...]:
        """In the format that the published models were trained with; nothing if there are none."""
        if not label_set.examples:
            return ()
        if self._backend.token_to_id(EXAMPLE_TOKEN) is None:
            raise LabelSetError(
                f"the tokenizer has no token {EXAMPLE_TOKEN!r}: this model was not trained to read examples; "
                "remove them, or train it on them with `gliclass-spark train`"
            )
        written = [self._example(example) for example in label_set.examples]
        return self._ids("".join(written) + SEP_TOKEN)

    def _retrieved(self, label_set: LabelSet) -> tuple[int, ...]:
        """As one string, of which only the markers that this tokenizer knows are control tokens."""
        ids: list[int] = []
        pieces = ((self._marker(piece), piece.text) for piece in retrieval_pieces(label_set.retrieved))
        for marker, parts in groupby(pieces, key=itemgetter(0)):
            texts = [text for _, text in parts]
            ids += self._plain_ids("".join(texts)) if marker is None else [marker] * len(texts)
        return tuple(ids)

    def _marker(self, piece: Piece) -> int | None:
        found: int | None = self._backend.token_to_id(piece.text) if piece.is_marker else None
        return found

    def _example(self, example: Example) -> str:
        text = f"{EXAMPLE_TOKEN}{example.text} \nLabels:\n {', '.join(example.labels)}"
        if self._control_tokens(self._ids(text)) != 1:
            raise LabelSetError(
                f"example {example.text[:40]!r} holds a control token of the model's tokenizer; reword it"
            )
        return text

    def _control_tokens(self, ids: Sequence[int]) -> int:
        return sum(token in self._control_ids for token in ids)

    def _groups(self, lengths: Sequence[int], fixed: int, label_set: LabelSet) -> list[range]:
        """Which labels are asked together. `fixed`: the tokens that stand in every input beside labels and text."""
        most = self._max_length - self._text_room - fixed
        if max(lengths) > most:
            raise LabelSetError(
                f"label {label_set.texts[lengths.index(max(lengths))][:40]!r} of {label_set.name!r} takes "
                f"{max(lengths)} tokens, its prompt and examples {fixed}; {self._max_length - self._text_room} of the "
                f"model's {self._max_length} tokens are for both, the others for the text; shorten them"
            )
        ends = [0, *accumulate(lengths)]
        at_once = label_set.labels_per_pass or len(lengths)
        if len(lengths) <= at_once and ends[-1] <= most:
            return [range(len(lengths))]
        # A long text beside many labels is read once for each of its windows and each group: this takes the fewest
        # inputs where both have as much room.
        share = max(max(lengths), min(most, (self._max_length - fixed) // 2))
        fewest = max(-(-len(lengths) // at_once), -(-ends[-1] // share))
        for count in range(fewest, len(lengths) + 1):
            cuts = [place * len(lengths) // count for place in range(count + 1)]
            groups = [range(start, stop) for start, stop in pairwise(cuts)]
            if all(ends[group.stop] - ends[group.start] <= share for group in groups):
                return groups
        raise AssertionError("groups of one label fit")
