"""Models and baselines compared on the same texts, zero-shot and few-shot."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import LabelSetError
from gliclass_spark.inference.engine import Engine
from gliclass_spark.training.data.labelled_text import LabelledSet, few_shot
from gliclass_spark.training.evaluation.baselines import EmbeddingClassifier, similarity_checkpoint
from gliclass_spark.training.evaluation.cross_encoder import CrossEncoderClassifier
from gliclass_spark.training.evaluation.evaluate import Score, refuse_overlap, sample, score
from gliclass_spark.training.evaluation.examples_in_label_set import ExamplesInLabelSet, label_set_examples
from gliclass_spark.training.evaluation.logit_regression import LogitRegression
from gliclass_spark.training.few_shot import fit_few_shot, without_contradictions

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BaselineComparison:
    """Labelled sets to evaluate, at most `max_rows` texts of each, and sets to draw few-shot examples from.

    registry: MLflow tracking URI of models:/ models; None: the environment's.
    """

    evaluated: Sequence[LabelledSet]
    example_sets: Sequence[LabelledSet]
    max_rows: int
    allow_overlap: bool = False
    registry: str | None = None

    def scores(
        self, models: Sequence[str], baselines: bool, cross_encoder: str | None, shots: int, seeds: int
    ) -> Iterator[Score]:
        """Yield each score when it is measured; all model URIs are resolved before the first.

        Raises ModelNotFoundError, CheckpointError; TrainingError if evaluated texts are among the examples.
        """
        refs = [resolve_model(model, registry=self.registry) for model in models]
        evaluated = [sample(labelled, self.max_rows) for labelled in self.evaluated]
        few_shot_runs = [
            (few_shot(labelled, shots, seed), seed, evaluated_set)
            for labelled, evaluated_set in zip(self.example_sets, evaluated, strict=bool(shots))
            for seed in range(seeds)
        ]
        if not self.allow_overlap:
            for examples, _, evaluated_set in few_shot_runs:
                refuse_overlap(evaluated_set, examples)
        for ref in refs:
            engine = Engine.from_pretrained(ref)
            yield from (score(engine, labelled, name=ref.uri) for labelled in evaluated)
            if baselines:
                bare = Engine(similarity_checkpoint(ref.uri, self.registry))
                yield from (score(bare, labelled, name=bare.ref.uri) for labelled in evaluated)
        if cross_encoder is not None:
            classifier = CrossEncoderClassifier(cross_encoder)
            yield from (score(classifier, labelled, name=cross_encoder) for labelled in evaluated)
        for examples, seed, evaluated_set in few_shot_runs:
            for ref in refs:
                yield from self._few_shot(ref, baselines, examples, seed, evaluated_set, shots)

    def _few_shot(
        self, ref: ModelRef, baselines: bool, examples: LabelledSet, seed: int, evaluated: LabelledSet, shots: int
    ) -> Iterator[Score]:
        yield score(fit_few_shot(ref, examples, seed), evaluated, name=ref.uri, shots=shots, seed=seed)
        engine = Engine.from_pretrained(ref)
        in_label_set = ExamplesInLabelSet(engine, label_set_examples(without_contradictions(examples)))
        name = f"{ref.uri}, examples in the label set"
        try:
            with_examples = score(in_label_set, evaluated, name=name, shots=shots, seed=seed)
        except LabelSetError as error:
            logger.warning("%s: not compared on %s: %s", name, evaluated.name, error)
        else:
            yield with_examples
        if baselines:
            classifier = EmbeddingClassifier(similarity_checkpoint(ref.uri, self.registry), seed).fit(examples)
            yield score(classifier, evaluated, name=f"logistic regression on {ref.uri}", shots=shots, seed=seed)
            on_logits = LogitRegression(engine, seed).fit(examples)
            yield score(on_logits, evaluated, name=f"regression on logits of {ref.uri}", shots=shots, seed=seed)
