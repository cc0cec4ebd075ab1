"""A training that is killed and started again ends with the same weights."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.long

PROGRAM = """
import sys
from pathlib import Path
import torch
from gliclass_spark.model.checkpoint import load
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.config.retraining import Ppo
from gliclass_spark.training import ppo
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.config.training import SamplingConfig, TrainingConfig
from gliclass_spark.training.data.batches import BatchSampler
from gliclass_spark.training.supervised import train

torch.set_num_threads(1)
model, out = sys.argv[1], Path(sys.argv[2])
kinds = ("cat", "dog", "owl")
animals = LabelledSet("animals", kinds, tuple(f"a {kind}" for kind in kinds), ((0,), (1,), (2,)))
sampling = SamplingConfig(texts=2)
start = load(resolve_model(model))
"""
SUPERVISED = """
config = TrainingConfig(steps=20, sampling=sampling, save_steps=2, seed=3)
train(start.model, start.tokenizer, [animals], config, out)
"""
PPO = """
sources = ppo.Sources(BatchSampler([animals], sampling, size=20, seed=3), None)
ppo.train(start.model, start.tokenizer, sources, Ppo(steps=20, texts=2, save_steps=2), out, seed=3)
"""
SECONDS = 120


@pytest.mark.parametrize(
    ("kind", "checkpoint"), [(SUPERVISED, "checkpoint-4"), (PPO, "step-4")], ids=["supervised", "ppo"]
)
def test_a_killed_training_ends_with_the_weights_of_one_that_was_not(
    kind: str, checkpoint: str, tiny_label_cached_model: str, tmp_path: Path
) -> None:
    def training(folder: str) -> list[str]:
        return [sys.executable, "-c", PROGRAM + kind, tiny_label_cached_model, str(tmp_path / folder)]

    subprocess.run(training("uninterrupted"), check=True)
    with subprocess.Popen(training("killed")) as killed:
        deadline = time.monotonic() + SECONDS
        while not (tmp_path / "killed" / "steps" / checkpoint).exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        killed.kill()
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    subprocess.run(training("killed"), check=True)
    uninterrupted, continued = (
        load_file(tmp_path / folder / "model.safetensors") for folder in ("uninterrupted", "killed")
    )
    assert uninterrupted.keys() == continued.keys()
    for name, weight in uninterrupted.items():
        torch.testing.assert_close(continued[name], weight, rtol=0, atol=1e-6, msg=name)
