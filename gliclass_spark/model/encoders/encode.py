"""Encode: a way from token ids to an encoder's last states, by its own forward pass or a faster one."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor


class Encode(Protocol):
    """Returns last states (batch, tokens, hidden) for token ids and their mask, (batch, tokens) each."""

    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        words: Tensor | None = None,
        *,
        token_count: int | None = None,
    ) -> Tensor:
        """words: embeddings (batch, tokens, size) in the place of the token ids' own.

        token_count: the sum of the mask, for a caller that knows it: reading it from a GPU waits for all work before.
        """


def forward_pass(encoder: Any) -> Encode:
    """Return the encoder's own forward pass. encoder: a model of transformers."""

    def encode(
        input_ids: Tensor, attention_mask: Tensor, words: Tensor | None = None, *, token_count: int | None = None
    ) -> Tensor:
        inputs = {"input_ids": input_ids} if words is None else {"inputs_embeds": words}
        states: Tensor = encoder(**inputs, attention_mask=attention_mask).last_hidden_state
        return states

    return encode
