"""Where a training stands, on the disk: so that one that was killed goes on as if it had not been. Without pickle."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

_KEPT = 2


class TrainingState:
    """Checkpoints `step-N` in a folder, the newest ones kept: weights, and what the optimiser remembers of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, step: int, module: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """A checkpoint is there whole, or not at all."""
        unfinished = self._folder / "unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        save_file(_contiguous(module.state_dict()), unfinished / "weights.safetensors")
        save_file(_contiguous(_remembered(optimizer)), unfinished / "optimizer.safetensors")
        unfinished.rename(self._folder / f"step-{step}")
        for _, old in self._found()[:-_KEPT]:
            shutil.rmtree(old)

    def resume(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Load the newest checkpoint, if there is one; gives the steps that are done."""
        found = self._found()
        if not found:
            return 0
        step, newest = found[-1]
        module.load_state_dict(load_file(newest / "weights.safetensors"))
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in load_file(newest / "optimizer.safetensors").items():
            number, _, key = name.partition(".")
            state.setdefault(int(number), {})[key] = value
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        return step

    def _found(self) -> list[tuple[int, Path]]:
        return sorted((int(path.name.removeprefix("step-")), path) for path in self._folder.glob("step-*"))


def _remembered(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    states = optimizer.state_dict()["state"]
    return {f"{number}.{key}": value for number, state in states.items() for key, value in state.items()}


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
