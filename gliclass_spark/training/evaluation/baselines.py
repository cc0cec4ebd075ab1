"""What a user would pick instead of a GLiClass: similarity, a classifier of their own, and a model of pairs."""

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
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from gliclass_spark.checkpoints import embedded_files
from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import CheckpointError, TrainingError
from gliclass_spark.inference.batching import micro_batches
from gliclass_spark.inference.device import choose_device, choose_precision
from gliclass_spark.inference.kernels.packed_bert import packed_bert
from gliclass_spark.inference.padding import pad
from gliclass_spark.inference.results import FloatArray
from gliclass_spark.labels import LabelSet
from gliclass_spark.model.architectures.label_cached import LabelCachedModel
from gliclass_spark.model.checkpoint import Checkpoint, load
from gliclass_spark.model.configuration import LabelCachedConfig
from gliclass_spark.model.prompts.label_cached_tokenizer import LabelCachedTokenizer
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.forward_pass import trainable
from gliclass_spark.training.from_encoder import untrained_model

_BATCH_TOKENS = 1024
_WINDOW = 512
_CPU = torch.device("cpu")


def similarity_checkpoint(model: str) -> Checkpoint:
    """The encoder of a model as it compares texts: the score is the cosine of two mean embeddings.

    For "embedded" it is all-MiniLM-L6-v2 as it was before its training, for others their own encoder.
    """
    ref = ModelRef(f"similarity of {model}", Path(), "")
    if model == embedded_files.NAME:
        untrained, tokenizer = untrained_model("bi-encoder")
        return Checkpoint(ref, untrained.eval(), tokenizer)
    loaded = load(resolve_model(model))
    theirs = trainable(loaded.model)
    encoder = deepcopy(theirs.config.encoder_config)
    encoder.vocab_size = theirs.config.vocab_size  # with the tokens that mark labels
    bare = LabelCachedModel(LabelCachedConfig(encoder, encoder.vocab_size, False, 20.0, 0.0))
    bare.encoder_model.load_state_dict(theirs.encoder_model.state_dict())
    return Checkpoint(ref, bare.eval(), loaded.tokenizer)


@dataclass
class EmbeddingClassifier:
    """Logistic regression on the mean embeddings of a `similarity` checkpoint: one classifier for one label set."""

    checkpoint: Checkpoint
    seed: int = 0

    def fit(self, labelled: LabelledSet) -> EmbeddingClassifier:
        """Learn from labelled texts. A label without one is never chosen: this is what zero-shot models are for.

        Raises TrainingError if fewer than two labels have a text.
        """
        self._several = any(len(true) > 1 for true in labelled.targets)
        regression = LogisticRegression(max_iter=1000, C=10.0, random_state=self.seed)
        vectors = self._vectors(labelled.texts)
        self._known = [label for label, rows in enumerate(labelled.by_label()) if rows]
        if len(self._known) < 2:
            raise TrainingError(f"{labelled.name} has texts of {len(self._known)} label(s); a classifier needs two")
        if self._several:
            truth = np.zeros((len(labelled), len(labelled.labels)), dtype=np.int64)
            for row, true in enumerate(labelled.targets):
                truth[row, list(true)] = 1
            self._classifier: Any = OneVsRestClassifier(regression).fit(vectors, truth[:, self._known])
        else:
            self._classifier = regression.fit(vectors, [true[0] for true in labelled.targets])
        return self

    def logits(self, texts: Sequence[str], labels: LabelSet) -> FloatArray:
        """(texts, labels), for the labels of the set that it was fitted to, in their order."""
        found = np.asarray(self._classifier.decision_function(self._vectors(texts)), dtype=np.float32)
        # scikit-learn gives two classes one column: how far it is the second.
        known = np.stack([-found, found], axis=1) if found.ndim == 1 else found
        logits = np.full((len(texts), len(labels)), -np.inf, dtype=np.float32)
        logits[:, self._known] = known
        return logits

    @torch.inference_mode()
    def _vectors(self, texts: Sequence[str]) -> FloatArray:
        model = self.checkpoint.model
        assert isinstance(model, LabelCachedModel)  # noqa: S101
        # In the engine's own way: a baseline that is slower than it must be would flatter the engine.
        model.encoder_model.to(choose_precision("auto", _CPU))
        bert = packed_bert(model.encoder_model)
        tokenizer = LabelCachedTokenizer(self.checkpoint.tokenizer, _WINDOW)
        prompt = tokenizer.prompt(LabelSet.of("any"))
        [frame] = prompt.frames
        inputs = [frame.around(ids[: prompt.max_text_tokens]) for ids in tokenizer.text_ids(texts, repeat(prompt))]
        vectors = np.empty((len(inputs), model.config.encoder_config.hidden_size), dtype=np.float32)
        for batch in micro_batches([len(ids) for ids in inputs], _BATCH_TOKENS):
            rows = list(batch.positions)
            ids, mask = pad([inputs[row] for row in rows], batch.tokens, 0, _CPU)
            vectors[rows] = model.text_vectors(ids, mask, bert=bert).numpy()
        return vectors


class CrossEncoder:
    """A model of pairs, asked once for each text and each label.

    Takes a sequence classifier from a folder or the hub: one that was trained to tell whether a text
    entails a hypothesis (it has a label "entailment"), or one with a single output. Like the engine, it
    takes a GPU if there is one and `device` names none. Raises CheckpointError for another model, DeviceError.
    """

    def __init__(
        self,
        model: str,
        *,
        hypothesis: str = "This example is {}.",
        batch_size: int = 32,
        device: str | None = None,
    ) -> None:
        self._device = choose_device(device)
        try:
            loaded = AutoModelForSequenceClassification.from_pretrained(model, use_safetensors=True)
            self._model = loaded.eval().to(self._device)
            self._tokenizer = AutoTokenizer.from_pretrained(model)
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{model!r} holds no model of pairs that can be loaded ({reason})") from None
        self._named = {str(name).casefold(): int(index) for index, name in self._model.config.id2label.items()}
        if self._model.config.num_labels != 1 and "entailment" not in self._named:
            raise CheckpointError(
                f"{model!r} tells {', '.join(self._named)} apart; give a model with a label 'entailment', or one output"
            )
        self._hypothesis = hypothesis
        self._batch_size = batch_size

    def logits(self, texts: Sequence[str], labels: LabelSet) -> FloatArray:
        """(texts, labels): the logit of entailment, less contradiction's where there is one."""
        pairs = [(text, self._hypothesis.format(label)) for text in texts for label in labels.texts]
        order = sorted(range(len(pairs)), key=lambda place: len(pairs[place][0]), reverse=True)
        found = np.empty(len(pairs), dtype=np.float32)
        for start in range(0, len(order), self._batch_size):
            places = order[start : start + self._batch_size]
            found[places] = self._scored([pairs[place] for place in places])
        return found.reshape(len(texts), len(labels))

    @torch.inference_mode()
    def _scored(self, pairs: Sequence[tuple[str, str]]) -> FloatArray:
        inputs = self._tokenizer(
            [text for text, _ in pairs],
            [hypothesis for _, hypothesis in pairs],
            padding=True,
            truncation="only_first",
            return_tensors="pt",
        ).to(self._device)
        logits = self._model(**inputs).logits
        scores = logits[:, self._named["entailment"]] if "entailment" in self._named else logits[:, 0]
        if "contradiction" in self._named:
            scores = scores - logits[:, self._named["contradiction"]]
        found: FloatArray = scores.float().cpu().numpy()
        return found
