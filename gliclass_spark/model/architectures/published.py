"""What every published architecture has behind its transformers: projections, scorer, calibrator."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from gliclass_spark.model.configuration import PublishedConfig
from gliclass_spark.model.heads.calibrator import Calibrator
from gliclass_spark.model.heads.label_vectors import LabelVectors, label_vectors
from gliclass_spark.model.heads.layers import Projector, TextLstm, unit
from gliclass_spark.model.heads.pooling import POOLINGS
from gliclass_spark.model.heads.scorers import SCORERS


class PublishedModel(nn.Module):
    """The head. Parameter names are those of the published checkpoints, less `model.`.

    The head computes in its own precision whatever the transformers'.
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
        # Some architectures never read it, but their published files hold it.
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

    def _own(self, states: Tensor) -> Tensor:
        """In the head's precision."""
        return states.to(self.text_projector.linear_1.weight.dtype)

    def _text(self, states: Tensor, mask: Tensor) -> Tensor:
        """What the scorer reads of a text, (batch, hidden) - 'pass' gives its tokens."""
        return self._projected_text(POOLINGS[self._config.pooling_strategy](states, mask))

    def _projected_text(self, pooled: Tensor) -> Tensor:
        return self._scaled_to_unit(self.dropout(self.text_projector(pooled)))

    def _labels(self, states: Tensor, mask: Tensor, input_ids: Tensor) -> LabelVectors:
        """What the scorer reads of the labels that stand in an input."""
        found = label_vectors(self._config, states, mask, input_ids)
        empty = max(0, self._config.fixed_slots - found.present.shape[1])
        vectors = functional.pad(found.vectors, (0, 0, 0, empty))
        return LabelVectors(self._projected_labels(vectors), functional.pad(found.present, (0, empty)))

    def _projected_labels(self, vectors: Tensor) -> Tensor:
        """(..., hidden) to the same."""
        return self._scaled_to_unit(self.classes_projector(vectors))

    def _scaled_to_unit(self, features: Tensor) -> Tensor:
        return unit(features) if self._config.normalize_features else features

    def _logits(self, text: Tensor, labels: LabelVectors, text_mask: Tensor, *, scaled: bool) -> Tensor:
        """(batch, labels), of labels as the scorer reads them."""
        vectors, present = labels.vectors, labels.present
        logits: Tensor = self.scorer(text, vectors, text_mask, present | self._slots(present))
        if scaled:
            logits = logits * self.logit_scale
        if self._config.use_calibrator:
            logits = self.calibrator(text, vectors, logits, present)
        return logits[:, present.any(dim=0)] if self._config.fixed_slots else logits

    def _slots(self, present: Tensor) -> Tensor:
        """Which places the scorer's softmax over the labels counts though no label may stand there."""
        return torch.arange(present.shape[1], device=present.device) < self._config.fixed_slots
