"""Scorers give one logit for each label, independent of the labels' order and of padding."""

from __future__ import annotations

import pytest
import torch
from gliclass.scorers import SCORER2OBJECT as REFERENCE
from torch import Tensor, nn

from gliclass_spark.model.heads.scorers import SCORERS

ROWS, LABELS, TOKENS, HIDDEN = 2, 5, 7, 8
EXACT = {"atol": 1e-6, "rtol": 0.0}


def scorer(name: str) -> nn.Module:
    torch.manual_seed(0)
    return SCORERS[name](HIDDEN, num_heads=2, mlp_hidden_size=16, attn_dropout=0.1).eval()


def inputs(name: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Text, labels, the text's mask and the labels' mask; 'cross-attn' takes the text's tokens, others one vector."""
    generator = torch.Generator().manual_seed(1)
    text_shape = (ROWS, TOKENS, HIDDEN) if name == "cross-attn" else (ROWS, HIDDEN)
    text = torch.randn(text_shape, generator=generator)
    labels = torch.randn(ROWS, LABELS, HIDDEN, generator=generator)
    return text, labels, torch.ones(ROWS, TOKENS), torch.ones(ROWS, LABELS, dtype=torch.bool)


@pytest.fixture(params=sorted(SCORERS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_one_logit_for_each_label_of_each_row(name: str) -> None:
    assert scorer(name)(*inputs(name)).shape == (ROWS, LABELS)


def test_one_label_is_enough(name: str) -> None:
    text, labels, mask, label_mask = inputs(name)
    assert scorer(name)(text, labels[:, :1], mask, label_mask[:, :1]).shape == (ROWS, 1)


def test_the_logits_are_the_references(name: str) -> None:
    own = scorer(name)
    expected = REFERENCE[name](HIDDEN, num_heads=2, scorer_mlp_hidden_size=16, attn_dropout=0.1).eval()
    expected.load_state_dict(own.state_dict())
    text, labels, mask, label_mask = inputs(name)
    with torch.no_grad():
        torch.testing.assert_close(own(text, labels, mask, label_mask), expected(text, labels, text_mask=mask), **EXACT)


def test_a_logit_follows_its_label_in_any_order(name: str) -> None:
    text, labels, mask, label_mask = inputs(name)
    order = torch.tensor([3, 0, 4, 2, 1])
    logits = scorer(name)(text, labels, mask, label_mask)
    torch.testing.assert_close(scorer(name)(text, labels[:, order], mask, label_mask), logits[:, order], **EXACT)


def test_a_row_does_not_depend_on_its_neighbour(name: str) -> None:
    text, labels, mask, label_mask = inputs(name)
    alone = scorer(name)(text[:1], labels[:1], mask[:1], label_mask[:1])
    torch.testing.assert_close(scorer(name)(text, labels, mask, label_mask)[:1], alone, **EXACT)


def test_a_masked_label_changes_no_other(name: str) -> None:
    text, labels, mask, label_mask = inputs(name)
    alone = scorer(name)(text, labels[:, :3], mask, label_mask[:, :3])
    label_mask[:, 3:] = False
    torch.testing.assert_close(scorer(name)(text, labels, mask, label_mask)[:, :3], alone, **EXACT)


def test_cross_attention_ignores_padding() -> None:
    text, labels, mask, label_mask = inputs("cross-attn")
    alone = scorer("cross-attn")(text[:, :4], labels, mask[:, :4], label_mask)
    mask[:, 4:] = 0
    text[:, 4:] = 1e4
    torch.testing.assert_close(scorer("cross-attn")(text, labels, mask, label_mask), alone, **EXACT)


def test_heads_that_do_not_divide_the_width_are_refused() -> None:
    with pytest.raises(ValueError, match="hidden_size 8 is not a multiple of scorer_num_heads 3"):
        SCORERS["cross-attn"](HIDDEN, num_heads=3, mlp_hidden_size=16, attn_dropout=0.1)
