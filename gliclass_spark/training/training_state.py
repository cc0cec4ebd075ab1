"""Checkpoints of a running training: weights and optimizer state, in safetensors."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

_KEPT_CHECKPOINTS = 2


class TrainingState:
    """Checkpoints `step-N` in a folder, of which the latest are kept."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, step: int, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write the checkpoint of a step, completely or not at all, and remove old ones."""
        unfinished = self._folder / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        save_file(_contiguous(module.state_dict()), unfinished / "weights.safetensors")
        save_file(_contiguous(_optimizer_tensors(optimizer)), unfinished / "optimizer.safetensors")
        unfinished.rename(self._folder / f"step-{step}")
        for _, old in self._checkpoints()[:-_KEPT_CHECKPOINTS]:
            shutil.rmtree(old)

    def resume(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Load the latest checkpoint, if there is one, and return the number of finished steps."""
        checkpoints = self._checkpoints()
        if not checkpoints:
            return 0
        step, folder = checkpoints[-1]
        module.load_state_dict(load_file(folder / "weights.safetensors"))
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in load_file(folder / "optimizer.safetensors").items():
            number, _, key = name.partition(".")
            state.setdefault(int(number), {})[key] = tensor
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        return step

    def _checkpoints(self) -> list[tuple[int, Path]]:
        return sorted((int(path.name.removeprefix("step-")), path) for path in self._folder.glob("step-*"))


def _optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    states = optimizer.state_dict()["state"]
    return {f"{number}.{key}": tensor for number, state in states.items() for key, tensor in state.items()}


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
