"""Cross-encoder baseline: zero-shot classification with one forward pass for each text and label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from gliclass_spark.errors import CheckpointError
from gliclass_spark.inference.device import choose_device
from gliclass_spark.inference.results import FloatArray
from gliclass_spark.labels import LabelSet


class CrossEncoderClassifier:
    """A cross-encoder of sentence-transformers that scores a text together with a hypothesis about each label.

    Takes a sequence classifier from a folder or the hub: one for natural language inference, with a label
    "entailment", or one with a single output. Like the engine, it takes a GPU if there is one and `device` names
    none. Raises CheckpointError for another model, DeviceError.
    """

    def __init__(
        self,
        model: str,
        *,
        hypothesis: str = "This example is {}.",
        batch_size: int = 32,
        device: str | None = None,
    ) -> None:
        # Takes seconds to import.
        from sentence_transformers import CrossEncoder

        chosen_device = choose_device(device)
        try:
            self._model = CrossEncoder(model, device=str(chosen_device), model_kwargs={"use_safetensors": True})
        except (OSError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{model!r} holds no cross-encoder that can be loaded ({reason})") from None
        config = self._model.config
        if not any(name.endswith("ForSequenceClassification") for name in config.architectures or ()):
            raise CheckpointError(f"{model!r} is no sequence classifier; give a model with a label 'entailment'")
        self._outputs = {str(name).casefold(): int(index) for index, name in config.id2label.items()}
        if config.num_labels != 1 and "entailment" not in self._outputs:
            raise CheckpointError(
                f"{model!r} has the labels {', '.join(self._outputs)}; give a model with a label 'entailment', or with "
                "one output"
            )
        self._hypothesis = hypothesis
        self._batch_size = batch_size

    def logits(self, texts: Sequence[str], labels: LabelSet) -> FloatArray:
        """Return logits, (texts, labels): of entailment, minus those of contradiction where the model has them."""
        pairs = [(text, self._hypothesis.format(label)) for text in texts for label in labels.texts]
        outputs = self._model.predict(
            pairs, batch_size=self._batch_size, activation_fn=nn.Identity(), show_progress_bar=False
        )
        outputs = np.asarray(outputs, dtype=np.float32).reshape(len(pairs), -1)
        logits: FloatArray = outputs[:, self._outputs.get("entailment", 0)]
        if "contradiction" in self._outputs:
            logits = logits - outputs[:, self._outputs["contradiction"]]
        return logits.reshape(len(texts), len(labels))
