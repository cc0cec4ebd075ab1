"""Peak resident memory, in MiB, of a process that loads a model and classifies texts.

    python benchmarks/memory.py [--model M] [--precision P] [--texts N] [--threads T]

Runs in a process of its own, so that nothing else counts.
"""

from __future__ import annotations

from gliclass_spark.inference.openmp import limit_spinning

limit_spinning()

# isort: split
import argparse
import resource
import sys
from pathlib import Path

import corpus
import torch

from gliclass_spark.inference.engine import Engine

LABELS = ["science", "sports", "politics", "finance", "software", "medicine", "travel", "cooking", "music", "law"]


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
