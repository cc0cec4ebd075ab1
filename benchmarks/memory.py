"""Load a model, classify texts, print the peak resident memory of this process in MiB.

    python benchmarks/memory.py [--model M] [--precision P] [--texts N] [--threads T]

A process of its own: what else a benchmark loads must not count.
"""

from __future__ import annotations

import argparse
import resource
import sys
from pathlib import Path

import corpus
import torch

from gliclass_spark.inference.engine import Engine

LABELS = ["science", "sports", "politics", "finance", "software", "medicine", "travel", "cooking", "music", "law"]


def peak_mib() -> float:
    status = Path("/proc/self/status")
    if status.is_file():
        # getrusage counts what the parent process held when it started this one, too.
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="embedded")
    parser.add_argument("--precision", default="auto", choices=("auto", "float32", "bfloat16"))
    parser.add_argument("--texts", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    engine = Engine.from_pretrained(options.model, device="cpu", precision=options.precision)
    engine.run(corpus.texts(options.texts, seed=0), LABELS)
    print(peak_mib())


if __name__ == "__main__":
    main()
