"""Examples in the label set: few-shot classification without a training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from unicodedata import category

from gliclass_spark.inference.results import FloatArray
from gliclass_spark.labels import Example, LabelSet
from gliclass_spark.labels.example import MAX_EXAMPLE_CHARS
from gliclass_spark.training.data.labelled_text import LabelledSet, few_shot, in_label_set, shared_texts
from gliclass_spark.training.evaluation.evaluate import Classifier, Score, sample, score
from gliclass_spark.training.few_shot import without_contradictions


@dataclass(frozen=True)
class ExamplesInLabelSet:
    """A model whose label sets have these examples."""

    model: Classifier
    examples: tuple[Example, ...]

    def logits(self, texts: Sequence[str], labels: LabelSet) -> FloatArray:
        """Return the model's logits, (texts, labels). Raises LabelSetError if the model can't take the examples."""
        return self.model.logits(texts, labels.replace(examples=self.examples))


@dataclass(frozen=True)
class AddedExamples:
    """A label set with examples, and its scores without and with them, on texts that are none of them.

    scores: empty if there are no other texts.
    """

    label_set: LabelSet
    scores: tuple[Score, ...]


def add_examples(
    model: Classifier, label_set: LabelSet, labelled: LabelledSet, *, name: str, shots: int, max_rows: int, seed: int
) -> AddedExamples:
    """Return the label set with some labelled texts of each label as its examples, in place of those that it has.

    The texts are drawn with the seed, without those that are there several times with different labels. name: of the
    model. shots: of each label. max_rows: how many of the others are evaluated. Raises TrainingError if the texts have
    labels that the label set lacks, or if fewer than two labels have one; LabelSetError if the model can't take them.
    """
    usable = without_contradictions(in_label_set(labelled, label_set))
    drawn = few_shot(usable, shots, seed)
    none, examples = (label_set.replace(examples=each) for each in ((), label_set_examples(drawn)))
    model.logits(drawn.texts[:1], examples)  # refuses examples that it can't take where no other text is left
    drawn_rows = shared_texts(usable, drawn)
    others = sample(usable.rows(row for row in range(len(usable)) if row not in drawn_rows), max_rows, seed)
    compared = ((none, 0), (examples, shots)) if len(others) else ()
    scores = (score(model, others, name=name, label_set=each, shots=count, seed=seed) for each, count in compared)
    return AddedExamples(examples, tuple(scores))


def label_set_examples(labelled: LabelledSet) -> tuple[Example, ...]:
    """Return labelled texts as examples, cut to the length of one, with blanks for control characters.

    Without texts of which nothing is left.
    """
    texts = (
        "".join(" " if category(character) == "Cc" else character for character in text[:MAX_EXAMPLE_CHARS])
        for text in labelled.texts
    )
    return tuple(
        Example(text=text, labels=tuple(labelled.labels[label] for label in labels))
        for text, labels in zip(texts, labelled.targets, strict=True)
        if text.strip()
    )
