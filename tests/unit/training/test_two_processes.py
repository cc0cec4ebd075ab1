"""Distributed training: gradients are averaged, all processes have the same weights, and one of them writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.model import checkpoint

pytestmark = pytest.mark.long

# Each process also writes the sum of its weights at the end.
PROGRAM = """
import json, os, sys
from pathlib import Path
import numpy as np
import torch
from gliclass_spark.labels import LabelSet
from gliclass_spark.model.checkpoint import load
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.config.retraining import Ppo
from gliclass_spark.training.reinforcement import ppo
from gliclass_spark.training.data.logged_decisions import LoggedDecisions
from gliclass_spark.training.data.feedback_batches import JudgedBatches
from gliclass_spark.config.training import TrainingConfig
from gliclass_spark.training.supervised import train_on

torch.set_num_threads(1)
model, out = sys.argv[1], Path(sys.argv[2])
names = ("cat", "dog", "owl")
texts = tuple(f"a {name} {number}" for number in range(8) for name in names)
truth = np.tile(np.eye(3, dtype=np.float32), (8, 1))
nothing = np.full_like(truth, np.nan)
decisions = LoggedDecisions(LabelSet.of(*names), texts, truth, nothing, nothing, nothing, np.zeros(24, dtype=bool))
batches = JudgedBatches(decisions, (), texts=8, replay_share=0, max_weight=1, size=99, seed=0)
start = load(resolve_model(model))
config = TrainingConfig(steps=2, save_steps=2)
supervised = train_on(batches, start.model, start.tokenizer, config, out / "supervised")
start = load(resolve_model(str(supervised)))
ppo.train(
    start.model, start.tokenizer, ppo.Sources(batches, None), Ppo(steps=2, texts=8, save_steps=2), out / "ppo"
)
total = sum(weight.detach().double().abs().sum().item() for weight in start.model.parameters())
(out / f"rank-{os.environ['RANK']}.json").write_text(json.dumps(total))
"""


def test_processes_that_torchrun_starts_share_their_gradients(tiny_label_cached_model: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    arguments = [str(tmp_path / "program.py"), tiny_label_cached_model, str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    one, other = (json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2))
    assert one == other
    trained = [checkpoint.load(resolve_model(str(tmp_path / name))).model for name in ("supervised", "ppo")]
    assert [path.name for path in (tmp_path / "ppo" / "steps").iterdir()] == ["step-2"]
    assert sum(weight.detach().double().abs().sum().item() for weight in trained[1].parameters()) == one
