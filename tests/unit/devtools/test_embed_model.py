"""The average of checkpoints that is installed as the embedded model."""

from __future__ import annotations

import torch

from devtools.embed_model import average


def test_the_average_weighs_each_checkpoint_by_its_share() -> None:
    one, other = torch.tensor([0.0, 1.0]), torch.tensor([4.0, 3.0])
    torch.testing.assert_close(average([one, other], [3.0, 1.0]), torch.tensor([1.0, 1.5]))


def test_equal_weights_are_not_rounded() -> None:
    words = torch.tensor([0.1, 0.7])
    assert torch.equal(average([words, words.clone(), words.clone()], [0.3, 0.3, 0.4]), words)
