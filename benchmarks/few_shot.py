"""Zero-shot against eight examples of each label, on labelled sets that the embedded model was not trained on.

    python benchmarks/few_shot.py DATA [--max-rows 400] [--processes 1] [--out FOLDER]

DATA is a folder of tables with the columns text, labels and split. Examples are drawn from the train split with five
seeds and evaluated on the test split; the baseline is logistic regression on embeddings of the bare encoder. Sets in
results/few_shot.json, of the same model, are not repeated.

Of the few-shot settings (training/few_shot.py) the number of steps and the share of the starting weights were chosen on
train splits: of tweet_offensive, tweet_sentiment, trec6 and reddit_topics, one to three draws of each with other seeds,
evaluated on the rest of the same split. The learning rates are older: they were chosen with two of these seeds on the
test splits of four sets.
"""

from __future__ import annotations

from gliclass_spark.inference.openmp import limit_spinning

limit_spinning()

# isort: split
import argparse
import json
import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import machine
import torch
from rich.console import Console

from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.cli.output.training_output import show_scores
from gliclass_spark.training.data.labelled_text import LabelledSet, read_sets
from gliclass_spark.training.evaluation.comparison import BaselineComparison
from gliclass_spark.training.evaluation.evaluate import Score

MODEL = "embedded"
SHOTS = 8
SEEDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--max-rows", type=int, default=400)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    options = parser.parse_args()
    path = options.out / "few_shot.json"
    before: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    results = [row for row in before if row.get("model") == resolve_model(MODEL).digest]
    done = {row["set"] for row in results}
    both = zip(read_sets(options.data, "test"), read_sets(options.data, "train"), strict=True)
    with ProcessPoolExecutor(options.processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        rows = [
            pool.submit(measure, evaluated, examples, options.max_rows)
            for evaluated, examples in both
            if evaluated.name not in done
        ]
        for row in as_completed(rows):
            results.append(row.result())
            path.write_text(
                json.dumps(sorted(results, key=lambda each: each["set"]), indent=2) + "\n", encoding="utf-8"
            )
            print(f"{results[-1]['set']}: written to {path}, {results[-1]['cpu_seconds']:.0f} CPU seconds", flush=True)
    show([Score(**each) for row in results for each in row["scores"]])


def measure(evaluated: LabelledSet, examples: LabelledSet, max_rows: int) -> dict[str, Any]:
    torch.set_num_threads(1)
    comparison = BaselineComparison([evaluated], [examples], max_rows)
    started = time.process_time()
    scores = [*comparison.scores([MODEL], baselines=True, cross_encoder=None, shots=SHOTS, seeds=SEEDS)]
    return {
        "set": evaluated.name,
        "model": resolve_model(MODEL).digest,
        "cpu_seconds": time.process_time() - started,
        "scores": [asdict(each) for each in scores],
        "device": machine.device(),
        "machine": machine.describe(),
    }


def show(scores: list[Score]) -> None:
    show_scores(Console(width=150), scores)
    zero = mean_of(scores, 0, 0)
    gains = [mean_of(scores, SHOTS, seed) / zero - 1 for seed in range(SEEDS)]
    gain, spread = fmean(gains), 100 * stdev(gains)
    print(f"{SHOTS} examples a label against none: {gain:+.0%} of macro-F1, standard deviation {spread:.1f} points")


def mean_of(scores: list[Score], shots: int, seed: int) -> float:
    """Return the mean macro-F1 over the sets."""
    return fmean(each.macro_f1 for each in scores if (each.contender, each.shots, each.seed) == (MODEL, shots, seed))


if __name__ == "__main__":
    main()
