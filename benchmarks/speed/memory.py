"""Resident memory, in MiB, of a process that loads a model and classifies texts: at the end, and at its peak.

    python -m benchmarks.speed.memory [--model M] [--precision P] [--library] [--texts N] [--threads T]

Runs in a process of its own, so that nothing else counts. --library: by the `gliclass` library at its default batch
size, in float32. Prints what no other process shares, all that is resident, and the peak of that; pages of the model's
file count as resident, and the kernel takes them back where it needs memory.
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

import torch

from benchmarks.speed import corpus
from gliclass_spark.inference.device import ModelPrecision
from gliclass_spark.inference.engine import Engine

LABELS = ["science", "sports", "politics", "finance", "software", "medicine", "travel", "cooking", "music", "law"]


def measured_mib(*options: str) -> float:
    """Return the peak that this module prints with these options."""
    command = [sys.executable, "-m", "benchmarks.speed.memory", *options]
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


def anonymous_and_resident_mib() -> tuple[float, float]:
    """Return the memory of this process that is no file's, and all that is resident; on Linux."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    kib = {line.partition(":")[0]: line.split()[1] for line in status if line.startswith(("RssAnon", "VmRSS"))}
    return int(kib["RssAnon"]) / 2**10, int(kib["VmRSS"]) / 2**10


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
        kept: object = classify_by_library(options.model, texts)
    else:
        kept = Engine.from_pretrained(options.model, device="cpu", precision=options.precision)
        kept.run(texts, LABELS)
    if sys.platform == "linux":
        print("anonymous {:.1f} resident {:.1f} peak ".format(*anonymous_and_resident_mib()), end="")
    print(peak_mib())
    del kept  # only now: it counts


def classify_by_library(model: str, texts: Sequence[str]) -> object:
    # Only here: it would count for the engine, too.
    from gliclass import GLiClassModel, ZeroShotClassificationPipeline  # type: ignore[import-untyped]
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    pipeline = ZeroShotClassificationPipeline(
        GLiClassModel.from_pretrained(model), tokenizer, max_length=512, device="cpu", progress_bar=False
    )
    pipeline(texts, LABELS)
    return pipeline


if __name__ == "__main__":
    main()
