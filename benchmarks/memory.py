"""Peak resident memory, in MiB, of a process that loads a model and classifies texts.

    python benchmarks/memory.py [--model M] [--precision P] [--library] [--texts N] [--threads T]

Runs in a process of its own, so that nothing else counts. --library: by the `gliclass` library at its default batch
size, in float32.
"""

from __future__ import annotations

from gliclass_spark.inference.openmp import limit_spinning

limit_spinning()

# isort: split
import argparse
import resource
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import corpus
import torch

from gliclass_spark.inference.device import ModelPrecision
from gliclass_spark.inference.engine import Engine

LABELS = ["science", "sports", "politics", "finance", "software", "medicine", "travel", "cooking", "music", "law"]


def measured_mib(*options: str) -> float:
    """Return what this script prints with these options."""
    command = [sys.executable, str(Path(__file__)), *options]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])  # noqa: S603


def peak_mib() -> float:
    """Return the peak resident memory of this process."""
    status = Path("/proc/self/status")
    if status.is_file():
        # getrusage includes the memory that the parent process held at the fork.
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--precision", default="auto", choices=("auto", *get_args(ModelPrecision)))
    parser.add_argument("--library", action="store_true")
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    texts = corpus.texts(options.texts, seed=0)
    if options.library:
        classify_by_library(options.model, texts)
    else:
        Engine.from_pretrained(options.model, device="cpu", precision=options.precision).run(texts, LABELS)
    print(peak_mib())


def classify_by_library(model: str, texts: Sequence[str]) -> None:
    # Only here: it would count for the engine, too.
    from gliclass import GLiClassModel, ZeroShotClassificationPipeline  # type: ignore[import-untyped]
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    pipeline = ZeroShotClassificationPipeline(
        GLiClassModel.from_pretrained(model), tokenizer, max_length=512, device="cpu", progress_bar=False
    )
    pipeline(texts, LABELS)


if __name__ == "__main__":
    main()
