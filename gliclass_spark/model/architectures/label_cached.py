"""One encoder that reads every label once, alone, and texts beside what it remembers of the labels.

In the joint uni-encoder each label is encoded again beside every text, and a text's scores depend on
the order of the labels. Here they don't, no window limits their number, and a label's states are
computed once. Before any training the score is the similarity of the encoder's mean embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedTokenizerFast

from gliclass_spark.errors import LabelSetError
from gliclass_spark.labels import LabelSet
from gliclass_spark.model.configuration import LabelCachedConfig
from gliclass_spark.model.encoders.backbone import build_encoder
from gliclass_spark.model.encoders.bert import Bert, KeysValues
from gliclass_spark.model.encoders.bert_weights import BertWeights, is_plain_bert
from gliclass_spark.model.prompts.text_tokenizer import Frame, Prompt, TextTokenizer

# So little that the labels change next to nothing before a training says that they should.
_UNREAD = -3.0


@dataclass(frozen=True)
class LabelStates:
    """What is remembered of labels: `vectors` (labels, hidden) of length 1, and what the texts read of them."""

    vectors: Tensor
    read: KeysValues | None

    @staticmethod
    def joined(parts: list[LabelStates]) -> LabelStates:
        """The labels of all parts, in their order."""
        vectors = torch.cat([part.vectors for part in parts])
        read = [part.read for part in parts if part.read is not None]
        return LabelStates(vectors, KeysValues.joined(read) if read else None)

    def __getitem__(self, label: int) -> LabelStates:
        """One label's."""
        return LabelStates(self.vectors[label : label + 1], self.read[label] if self.read else None)


class LabelCachedModel(nn.Module):
    """Encoder, two residual projections and a scaled cosine."""

    def __init__(self, config: LabelCachedConfig) -> None:
        super().__init__()
        self.config = config
        encoder = config.encoder_config
        plain = is_plain_bert(encoder)
        self.encoder_model = BertWeights(encoder) if plain else build_encoder(encoder, config.vocab_size)
        size = encoder.hidden_size
        self.text_projector = nn.Linear(size, size)
        self.label_projector = nn.Linear(size, size)
        for projector in (self.text_projector, self.label_projector):
            nn.init.zeros_(projector.weight)
            nn.init.zeros_(projector.bias)
        self.logit_scale = nn.Parameter(torch.tensor(config.logit_scale_init_value))
        self.logit_offset = nn.Parameter(torch.tensor(config.logit_offset_init_value))
        if config.text_reads_labels:
            self.label_bias = nn.Parameter(
                torch.full((encoder.num_hidden_layers, encoder.num_attention_heads), _UNREAD)
            )

    @property
    def transformers(self) -> tuple[nn.Module, ...]:
        """The large part, which may run in a lower precision than the head."""
        return (self.encoder_model,)

    def label_states(self, input_ids: Tensor, attention_mask: Tensor, bert: Bert | None = None) -> LabelStates:
        """What to remember of labels, (labels, tokens) ids padded on the right. `bert`: a faster way to the same."""
        read = None
        if self.config.text_reads_labels:
            states, read = (bert or Bert(self.encoder_model)).remembered(input_ids, attention_mask)
        else:
            states = self._encode(input_ids, attention_mask, bert)
        return LabelStates(_direction(states, attention_mask, self.label_projector), read)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, labels: LabelStates, bert: Bert | None = None
    ) -> Tensor:
        """Logits (batch, labels) of texts, (batch, tokens) ids padded on the right."""
        cosine = self.text_vectors(input_ids, attention_mask, labels.read, bert) @ labels.vectors.T
        return cosine * self.logit_scale + self.logit_offset

    def text_vectors(
        self, input_ids: Tensor, attention_mask: Tensor, labels: KeysValues | None = None, bert: Bert | None = None
    ) -> Tensor:
        """What labels' vectors are compared with, (batch, hidden) of length 1. `labels`: what texts read of them."""
        if labels is None:
            states = self._encode(input_ids, attention_mask, bert)
        else:
            states = (bert or Bert(self.encoder_model)).beside(input_ids, attention_mask, labels, self.label_bias)
        return _direction(states, attention_mask, self.text_projector)

    def _encode(self, input_ids: Tensor, attention_mask: Tensor, bert: Bert | None) -> Tensor:
        if bert is None and isinstance(self.encoder_model, BertWeights):
            bert = Bert(self.encoder_model)
        if bert is not None:
            return bert(input_ids, attention_mask)
        states: Tensor = self.encoder_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return states


def _direction(states: Tensor, attention_mask: Tensor, projector: nn.Linear) -> Tensor:
    """The mean of the tokens that are there, projected beside itself, at length 1."""
    weight = attention_mask.unsqueeze(-1).to(projector.weight.dtype)
    mean = (states.to(weight.dtype) * weight).sum(dim=1) / weight.sum(dim=1)
    return functional.normalize(mean + projector(mean), dim=-1)


class LabelCachedTokenizer(TextTokenizer):
    """Texts and labels, each an input of its own."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, max_length: int) -> None:
        super().__init__(tokenizer, max_length)
        self._begin, self._end = self._frame("a")

    def prompt(self, label_set: LabelSet) -> Prompt:
        """What stands around a text.

        Raises LabelSetError if a task prompt leaves no room for it, or if there are examples, which no
        model of this kind reads.
        """
        if label_set.examples or label_set.retrieved:
            raise LabelSetError(
                f"label set {label_set.name!r} has examples, which a model that reads each label once can't read "
                "beside a text; remove them, or train it on them with `gliclass-spark train`"
            )
        task, task_ids = self._task(label_set)
        room = self._max_length - len(self._begin) - len(self._end)
        if room - len(task_ids) < self._text_room:
            raise LabelSetError(
                f"the prompt of {label_set.name!r} takes {len(task_ids)} of the model's {self._max_length} tokens, "
                f"of which it must leave {self._text_room} to the text; shorten it"
            )
        for text in label_set.texts:
            self.label_ids(text)
        frame = Frame(self._begin, self._end, range(len(label_set)), label_set.texts)
        return Prompt(label_set, (frame,), task, task_ids, room)

    def label_ids(self, text: str) -> list[int]:
        """A label's input. Raises LabelSetError if it holds a control token or does not fit into the window."""
        ids = self._ids(text)
        if not self._control_ids.isdisjoint(ids):
            raise LabelSetError(f"label {text!r} holds a control token of the model's tokenizer; reword it")
        framed = [*self._begin, *ids, *self._end]
        if len(framed) > self._max_length:
            raise LabelSetError(
                f"label {text[:40]!r}... takes {len(framed)} tokens, the model reads {self._max_length}; shorten it"
            )
        return framed
