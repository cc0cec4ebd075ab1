"""The average of checkpoints that is installed as the embedded model, or saved to train on from it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from devtools import embed_model
from devtools.embed_model import average
from gliclass_spark.checkpoints import embedded_files
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.model import checkpoint


def test_the_average_weighs_each_checkpoint_by_its_share() -> None:
    one, other = torch.tensor([0.0, 1.0]), torch.tensor([4.0, 3.0])
    torch.testing.assert_close(average([one, other], [3.0, 1.0]), torch.tensor([1.0, 1.5]))


def test_equal_weights_are_not_rounded() -> None:
    words = torch.tensor([0.1, 0.7])
    assert torch.equal(average([words, words.clone(), words.clone()], [0.3, 0.3, 0.4]), words)


def test_an_average_that_is_saved_is_not_installed(
    tiny_label_cached_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed = [path.read_bytes() for path in embedded_files.files()]
    model = checkpoint.load(resolve_model(tiny_label_cached_model)).model
    expected = {name: weight.clone() for name, weight in model.state_dict().items()}
    other = tmp_path / "other"
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(1.0)
    checkpoint.save(model, checkpoint.load(resolve_model(tiny_label_cached_model)).tokenizer, other)
    arguments = [tiny_label_cached_model, str(other), "--shares", "3", "1", "--out", str(tmp_path / "average")]
    monkeypatch.setattr(sys, "argv", ["embed_model", *arguments])
    embed_model.main()
    saved = checkpoint.load(resolve_model(str(tmp_path / "average"))).model
    for name, weight in saved.named_parameters():
        torch.testing.assert_close(weight, expected[name] + 0.25, rtol=0, atol=1e-5)
    assert [path.read_bytes() for path in embedded_files.files()] == installed
