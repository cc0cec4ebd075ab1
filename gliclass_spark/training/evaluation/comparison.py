"""A model beside what a user would pick instead, on the same texts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.inference.engine import Engine
from gliclass_spark.training.data.labelled_text import LabelledSet, few_shot
from gliclass_spark.training.evaluation.baselines import CrossEncoder, EmbeddingClassifier, similarity_checkpoint
from gliclass_spark.training.evaluation.evaluate import Score, refuse_overlap, sample, score
from gliclass_spark.training.few_shot import fit_few_shot


@dataclass(frozen=True)
class BaselineComparison:
    """The texts: `asked` of every contender, at most `max_rows` of a set, and `learned` from for few-shot figures."""

    asked: Sequence[LabelledSet]
    learned: Sequence[LabelledSet]
    max_rows: int
    allow_overlap: bool = False

    def scores(
        self, models: Sequence[str], baselines: bool, cross_encoder: str | None, shots: int, seeds: int
    ) -> Iterator[Score]:
        """Score by score, as they are found. Every model is looked up before the first is asked.

        Raises ModelNotFoundError, CheckpointError; TrainingError where texts that are asked were learned from.
        """
        refs = [resolve_model(model) for model in models]
        asked = [sample(labelled, self.max_rows) for labelled in self.asked]
        examples = [
            (few_shot(labelled, shots, seed), seed, of)
            for labelled, of in zip(self.learned, asked, strict=bool(shots))
            for seed in range(seeds)
        ]
        if not self.allow_overlap:
            for learned, _, of in examples:
                refuse_overlap(learned, of)
        for ref in refs:
            engine = Engine.from_pretrained(ref)
            yield from (score(engine, labelled, name=ref.uri) for labelled in asked)
            if baselines:
                bare = Engine(similarity_checkpoint(ref.uri))
                yield from (score(bare, labelled, name=bare.ref.uri) for labelled in asked)
        if cross_encoder is not None:
            pairs = CrossEncoder(cross_encoder)
            yield from (score(pairs, labelled, name=cross_encoder) for labelled in asked)
        for learned, seed, of in examples:
            for ref in refs:
                yield from self._few_shot(ref, baselines, learned, seed, of, shots)

    def _few_shot(
        self, ref: ModelRef, baselines: bool, learned: LabelledSet, seed: int, asked: LabelledSet, shots: int
    ) -> Iterator[Score]:
        yield score(fit_few_shot(ref, learned, seed), asked, name=ref.uri, shots=shots, seed=seed)
        if baselines:
            classifier = EmbeddingClassifier(similarity_checkpoint(ref.uri), seed).fit(learned)
            yield score(classifier, asked, name=f"logistic regression on {ref.uri}", shots=shots, seed=seed)
