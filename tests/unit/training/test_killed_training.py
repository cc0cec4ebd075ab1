"""A training that is killed and started again ends with the same weights."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.config.retraining import Ppo
from gliclass_spark.config.training import SamplingConfig, TrainingConfig
from gliclass_spark.model.checkpoint import load
from gliclass_spark.training import supervised
from gliclass_spark.training.data.batches import BatchSampler
from gliclass_spark.training.data.labelled_text import LabelledSet
from gliclass_spark.training.reinforcement import ppo

pytestmark = pytest.mark.long

KINDS = ("cat", "dog", "owl")
ANIMALS = LabelledSet("animals", KINDS, tuple(f"a {kind}" for kind in KINDS), ((0,), (1,), (2,)))
SAMPLING = SamplingConfig(texts=2)
SECONDS = 120

# Processes of their own that have imported the trainers already.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload([ppo.__name__, supervised.__name__])


def supervised_training(model: str, folder: Path) -> None:
    torch.set_num_threads(1)
    start = load(resolve_model(model))
    config = TrainingConfig(steps=20, sampling=SAMPLING, save_steps=2, seed=3)
    supervised.train(start.model, start.tokenizer, [ANIMALS], config, folder)


def ppo_training(model: str, folder: Path) -> None:
    torch.set_num_threads(1)
    start = load(resolve_model(model))
    sources = ppo.Sources(BatchSampler([ANIMALS], SAMPLING, size=20, seed=3), None)
    ppo.train(start.model, start.tokenizer, sources, Ppo(steps=20, texts=2, save_steps=2), folder, seed=3)


@pytest.mark.parametrize(
    ("train", "checkpoint"),
    [(supervised_training, "checkpoint-4"), (ppo_training, "step-4")],
    ids=["supervised", "ppo"],
)
def test_a_killed_training_ends_with_the_weights_of_one_that_was_not(
    train: Callable[[str, Path], None], checkpoint: str, tiny_label_cached_model: str, tmp_path: Path
) -> None:
    def started(folder: str) -> multiprocessing.context.ForkServerProcess:
        process = PROCESSES.Process(target=train, args=(tiny_label_cached_model, tmp_path / folder))
        process.start()
        return process

    def run(folder: str) -> None:
        process = started(folder)
        process.join()
        assert process.exitcode == 0

    run("uninterrupted")
    killed = started("killed")
    deadline = time.monotonic() + SECONDS
    while not (tmp_path / "killed" / "steps" / checkpoint).exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    killed.kill()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    run("killed")
    uninterrupted, continued = (
        load_file(tmp_path / folder / "model.safetensors") for folder in ("uninterrupted", "killed")
    )
    assert uninterrupted.keys() == continued.keys()
    for name, weight in uninterrupted.items():
        torch.testing.assert_close(continued[name], weight, rtol=0, atol=1e-6, msg=name)
