"""Embedding baselines: label similarity without training, and logistic regression on embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.multiclass import OneVsRestClassifier

from gliclass_spark.checkpoints import embedded_files
from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import TrainingError
from gliclass_spark.inference.batching import micro_batches
from gliclass_spark.inference.device import float_dtype, float_precision
from gliclass_spark.inference.kernels.fast_encoder import fast_bert
from gliclass_spark.inference.padding import pad
from gliclass_spark.inference.results import FloatArray
from gliclass_spark.labels import LabelSet
from gliclass_spark.model.architectures.label_cached import LabelCachedModel
from gliclass_spark.model.checkpoint import Checkpoint, load
from gliclass_spark.model.configuration import LabelCachedConfig
from gliclass_spark.model.prompts.label_cached_tokenizer import LabelCachedTokenizer
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.forward_pass import require_trainable
from gliclass_spark.training.from_encoder import untrained_model

_BATCH_TOKENS = 1024
_WINDOW = 512
_CPU = torch.device("cpu")


def similarity_checkpoint(model: str, registry: str | None = None) -> Checkpoint:
    """Return a checkpoint that scores with the bare encoder of a model: the scaled cosine of mean embeddings.

    For "embedded" that is all-MiniLM-L6-v2 before its training, for others their own encoder. registry: MLflow tracking
    URI of a models:/ model; None: the environment's.
    """
    ref = ModelRef(f"similarity of {model}", Path(), "")
    if model == embedded_files.NAME:
        untrained, tokenizer = untrained_model("bi-encoder")
        return Checkpoint(ref, untrained.eval(), tokenizer)
    loaded = load(resolve_model(model, registry=registry))
    source = require_trainable(loaded.model)
    encoder = deepcopy(source.config.encoder_config)
    encoder.vocab_size = source.config.vocab_size  # with the tokens that mark labels
    bare = LabelCachedModel(LabelCachedConfig(encoder, encoder.vocab_size, False, 20.0, 0.0))
    bare.encoder_model.load_state_dict(source.encoder_model.state_dict())
    return Checkpoint(ref, bare.eval(), loaded.tokenizer)


@dataclass
class EmbeddingClassifier:
    """Logistic regression on the mean embeddings of a `similarity_checkpoint`, for one label set."""

    checkpoint: Checkpoint
    seed: int = 0

    def fit(self, labelled: LabelledSet) -> EmbeddingClassifier:
        """Fit to labelled texts and return self. A label without texts gets a logit of minus infinity.

        Raises TrainingError if fewer than two labels have a text.
        """
        self._multi_label = any(len(labels) > 1 for labels in labelled.targets)
        regression = LogisticRegression(max_iter=1000, C=10.0, random_state=self.seed)
        vectors = self.embed(labelled.texts)
        self._fitted_labels = [label for label, rows in enumerate(labelled.by_label()) if rows]
        if len(self._fitted_labels) < 2:
            raise TrainingError(
                f"{labelled.name} has texts of {len(self._fitted_labels)} label(s); a classifier needs two"
            )
        if self._multi_label:
            truth = np.zeros((len(labelled), len(labelled.labels)), dtype=np.int64)
            for row, labels in enumerate(labelled.targets):
                truth[row, list(labels)] = 1
            self._classifier: Any = OneVsRestClassifier(regression).fit(vectors, truth[:, self._fitted_labels])
        else:
            self._classifier = regression.fit(vectors, [labels[0] for labels in labelled.targets])
        return self

    def logits(self, texts: Sequence[str], labels: LabelSet) -> FloatArray:
        """Return logits, (texts, labels), of the labels that it was fitted to, in their order."""
        decisions = np.asarray(self._classifier.decision_function(self.embed(texts)), dtype=np.float32)
        # For two classes scikit-learn returns one column, the logit of the second.
        fitted = np.stack([-decisions, decisions], axis=1) if decisions.ndim == 1 else decisions
        logits = np.full((len(texts), len(labels)), -np.inf, dtype=np.float32)
        logits[:, self._fitted_labels] = fitted
        return logits

    @torch.inference_mode()
    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return the mean embeddings of texts, (texts, hidden size)."""
        model = self.checkpoint.model
        assert isinstance(model, LabelCachedModel)  # noqa: S101
        # With the engine's kernels: a slower baseline than necessary would flatter the engine.
        precision = float_precision(_CPU)
        model.encoder_model.to(float_dtype(precision))
        bert = fast_bert(model.encoder_model, precision)
        tokenizer = LabelCachedTokenizer(self.checkpoint.tokenizer, _WINDOW)
        prompt = tokenizer.prompt(LabelSet.of("label"))
        [frame] = prompt.frames
        inputs = [frame.input_ids(ids[: prompt.max_text_tokens]) for ids in tokenizer.text_ids(texts, repeat(prompt))]
        vectors = np.empty((len(inputs), model.config.encoder_config.hidden_size), dtype=np.float32)
        for batch in micro_batches([len(ids) for ids in inputs], _BATCH_TOKENS):
            rows = list(batch.positions)
            ids, mask = pad([inputs[row] for row in rows], batch.tokens, 0, _CPU)
            vectors[rows] = model.text_vectors(ids, mask, bert=bert).numpy()
        return vectors
