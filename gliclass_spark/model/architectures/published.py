"""Base of the published architectures: projections, scorer and calibrator behind their transformers."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from gliclass_spark.model.configuration import PublishedConfig
from gliclass_spark.model.heads.calibrator import Calibrator
from gliclass_spark.model.heads.label_vectors import LabelVectors, pool_labels
from gliclass_spark.model.heads.layers import Projector, TextLstm, to_unit_length
from gliclass_spark.model.heads.pooling import POOLINGS
from gliclass_spark.model.heads.scorers import SCORERS


class PublishedModel(nn.Module):
    """The head of a published model. Parameter names are those of the published checkpoints, less `model.`.

    The head computes in its own precision, whatever that of the transformers.
    """

    def __init__(self, config: PublishedConfig) -> None:
        super().__init__()
        self._config = config
        size = config.encoder_config.hidden_size
        projector = partial(Projector, size, config.hidden_size, size, config.projector_hidden_act, config.dropout)
        self.text_projector = projector()
        self.classes_projector = projector()
        self.scorer = SCORERS[config.scorer_type](
            config.hidden_size,
            num_heads=config.scorer_num_heads,
            mlp_hidden_size=config.scorer_mlp_hidden_size,
            attn_dropout=config.scorer_attn_dropout,
        )
        self.dropout = nn.Dropout(config.dropout)
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init_value))
        # Some architectures never use it, but their published files hold it.
        if config.use_lstm:
            self.lstm = TextLstm(config.hidden_size)
        if config.use_calibrator:
            self.calibrator = Calibrator(
                size,
                config.calibrator_hidden_size,
                config.calibrator_beta_max,
                config.calibrator_dropout,
                config.calibrator_use_bias,
            )

    @property
    def transformers(self) -> tuple[nn.Module, ...]:
        """The large parts, which may run in a lower precision than the head."""
        raise NotImplementedError

    def _to_head_dtype(self, states: Tensor) -> Tensor:
        return states.to(self.text_projector.linear_1.weight.dtype)

    def _encode_text(self, states: Tensor, mask: Tensor) -> Tensor:
        """Pool and project a text's states to (batch, hidden); pooling 'pass' keeps (batch, tokens, hidden)."""
        return self._project_text(POOLINGS[self._config.pooling_strategy](states, mask))

    def _project_text(self, pooled: Tensor) -> Tensor:
        return self._normalize(self.dropout(self.text_projector(pooled)))

    def _encode_labels(
        self, states: Tensor, mask: Tensor, input_ids: Tensor, label_count: int | None = None
    ) -> LabelVectors:
        """Pool and project the labels of an input to the vectors that the scorer takes; see `pool_labels`."""
        labels = pool_labels(self._config, states, mask, input_ids, label_count)
        empty = max(0, self._config.fixed_label_slots - labels.present.shape[1])
        vectors = functional.pad(labels.vectors, (0, 0, 0, empty))
        return LabelVectors(self._project_labels(vectors), functional.pad(labels.present, (0, empty)))

    def _project_labels(self, vectors: Tensor) -> Tensor:
        """Project label vectors, (..., hidden) to (..., hidden)."""
        return self._normalize(self.classes_projector(vectors))

    def _normalize(self, features: Tensor) -> Tensor:
        return to_unit_length(features) if self._config.normalize_features else features

    def _logits(self, text: Tensor, labels: LabelVectors, text_mask: Tensor, *, scaled: bool) -> Tensor:
        """Return logits (batch, labels) of projected texts and labels."""
        vectors, present = labels.vectors, labels.present
        logits: Tensor = self.scorer(text, vectors, text_mask, present | self._is_fixed_slot(present))
        if scaled:
            logits = logits * self.logit_scale
        if self._config.use_calibrator:
            logits = self.calibrator(text, vectors, logits, present)
        return logits[:, present.any(dim=0)] if self._config.fixed_label_slots else logits

    def _is_fixed_slot(self, present: Tensor) -> Tensor:
        """Return which columns the scorer's softmax over the labels always includes, with or without a label."""
        return torch.arange(present.shape[1], device=present.device) < self._config.fixed_label_slots
