"""No example against eight of each label, on labelled sets that the embedded model was not trained on.

    python benchmarks/few_shot.py DATA [--max-rows 400] [--out FOLDER]

DATA is a folder of tables with the columns text, labels and split. The examples are drawn from the train split by five
seeds, the test split is asked; beside the embedded model stands logistic regression on its bare encoder's embeddings.
Sets that results/few_shot.json already holds are left out: delete its rows to have them made again.

Of how the embedded model learns from examples (training/few_shot.py) the number of steps and the share of the start
were chosen on train splits: of tweet_offensive, tweet_sentiment, trec6 and reddit_topics, one to three draws of each by
other seeds, judged on the rest of the same split. Its learning rates are older, and had been asked of four sets' test
splits with two of these seeds.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import machine
import torch
from rich.console import Console

from gliclass_spark.show_learning import show_scores
from gliclass_spark.training.comparison import Comparison
from gliclass_spark.training.evaluate import Score
from gliclass_spark.training.labelled import read_sets

MODEL = "embedded"
SHOTS = 8
SEEDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--max-rows", type=int, default=400)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    torch.set_num_threads(1)
    path = options.out / "few_shot.json"
    found: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    for asked, learned in zip(read_sets(options.data, "test"), read_sets(options.data, "train"), strict=True):
        if asked.name in {row["set"] for row in found}:
            continue
        comparison = Comparison([asked], [learned], options.max_rows)
        started = time.process_time()
        scores = comparison.scores([MODEL], baselines=True, cross_encoder=None, shots=SHOTS, seeds=SEEDS)
        rows = [asdict(each) for each in scores]
        seconds = time.process_time() - started
        found.append({"set": asked.name, "cpu_seconds": seconds, "scores": rows, "machine": machine.describe()})
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        print(f"{asked.name}: written to {path}, {seconds:.0f} processor seconds")
    show([Score(**each) for row in found for each in row["scores"]])


def show(scores: list[Score]) -> None:
    show_scores(Console(width=150), scores)
    zero = mean_of(scores, 0, 0)
    gains = [mean_of(scores, SHOTS, seed) / zero - 1 for seed in range(SEEDS)]
    gain, spread = fmean(gains), 100 * stdev(gains)
    print(f"{SHOTS} examples a label against none: {gain:+.0%} of macro-F1, standard deviation {spread:.1f} points")


def mean_of(scores: list[Score], shots: int, seed: int) -> float:
    """Over the sets."""
    return fmean(each.macro_f1 for each in scores if (each.contender, each.shots, each.seed) == (MODEL, shots, seed))


if __name__ == "__main__":
    main()
