"""A model with examples in its label set: a few-shot contender that trains nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from unicodedata import category

from gliclass_spark.inference.results import FloatArray
from gliclass_spark.labels import Example, LabelSet
from gliclass_spark.labels.example import MAX_EXAMPLE_CHARS
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.evaluation.evaluate import Classifier


@dataclass(frozen=True)
class ExamplesInLabelSet:
    """A model whose label sets have these examples."""

    model: Classifier
    examples: tuple[Example, ...]

    def logits(self, texts: Sequence[str], labels: LabelSet) -> FloatArray:
        """Return the model's logits, (texts, labels). Raises LabelSetError if the model can't take the examples."""
        return self.model.logits(texts, labels.replace(examples=self.examples))


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
