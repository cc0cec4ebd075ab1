"""Zero-shot against eight examples of each label, on labelled sets that the embedded model was not trained on.

    python -m benchmarks.quality.few_shot DATA [--head] [--max-rows 300] [--sets NAME ...] [--all-baselines]
        [--out FOLDER]
    python -m benchmarks.quality.few_shot DATA --choose [--trainings NAME ...] [--draws 3]

DATA is a folder of tables with the columns text, labels and split. Examples are drawn from the train split with five
seeds, and every contender gets the same ones: the model trained on them (training/few_shot.py) and logistic regression
on the model's zero-shot logits; with --all-baselines also similarity and logistic regression on embeddings of the bare
encoder. All are evaluated on the same texts of the test split. Draws in results/few_shot.json, of the same model and
settings, are not repeated. --head trains the head alone, for results/few_shot_head.json: seconds for each draw instead
of two minutes.

--choose compares the ways to train and the shares of the weights before the training that a number of examples calls
for, on sets that are not those of the report and that the model was not trained on: see few_shot_choice.py. Its table
is kept in results/few_shot_choice.json.
"""

from __future__ import annotations

from gliclass_spark.inference.openmp import limit_spinning

limit_spinning()

# isort: split
import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import Console

from benchmarks import machine
from benchmarks.folders import RESULTS
from benchmarks.quality import few_shot_choice
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.cli.output.training_output import show_scores
from gliclass_spark.inference.engine import Engine
from gliclass_spark.training.data.labelled_text import LabelledSet, few_shot, read_sets
from gliclass_spark.training.evaluation.baselines import EmbeddingClassifier, similarity_checkpoint
from gliclass_spark.training.evaluation.evaluate import Score, refuse_overlap, sample, score
from gliclass_spark.training.evaluation.logit_regression import LogitRegression
from gliclass_spark.training.few_shot import (
    HEAD_FALLBACK,
    START_WEIGHT_EXAMPLES,
    START_WEIGHT_FOLDS,
    START_WEIGHT_PENALTY,
    fit_few_shot,
    head_config,
)
from gliclass_spark.training.held_out_share import STANDARD_ERRORS, clear_standard_errors

MODEL = "embedded"
HEAD = f"head of {MODEL}"
ON_LOGITS = f"regression on logits of {MODEL}"
ON_EMBEDDINGS = f"logistic regression on {MODEL}"
SHOTS = 8
SEEDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--max-rows", type=int, default=300)
    parser.add_argument("--sets", nargs="*", help="only these")
    parser.add_argument("--all-baselines", action="store_true")
    parser.add_argument("--head", action="store_true", help="train only heads")
    parser.add_argument("--choose", action="store_true", help="compare ways to train, on sets never seen")
    parser.add_argument("--trainings", nargs="*", choices=[*few_shot_choice.TRAININGS], help="of --choose: only these")
    parser.add_argument("--draws", type=int, default=few_shot_choice.DRAWS, help="of --choose: of each set")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    if options.choose:
        trainings = options.trainings or [*few_shot_choice.TRAININGS]
        few_shot_choice.choose(options.data, options.out / "few_shot_choice.json", trainings, options.draws)
        return
    path = options.out / ("few_shot_head.json" if options.head else "few_shot.json")
    before: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    results = {row["set"]: row for row in before if row.get("settings") == settings(options.head)}
    pairs = [
        (sample(evaluated, options.max_rows), examples)
        for evaluated, examples in zip(read_sets(options.data, "test"), read_sets(options.data, "train"), strict=True)
        if not options.sets or evaluated.name in options.sets
    ]
    for seed in range(SEEDS):
        for evaluated, examples in pairs:
            row = results.setdefault(evaluated.name, empty_row(evaluated.name, options.head))
            if any(score["shots"] and score["seed"] == seed for score in row["scores"]):
                continue
            started = time.process_time()
            row["scores"] += [asdict(each) for each in contenders(evaluated, examples, seed, options)]
            row["cpu_seconds"] += time.process_time() - started
            rows = [results[name] for name in sorted(results)]
            path.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
            print(f"{evaluated.name}, draw {seed}: written to {path}", flush=True)
    show([Score(**each) for row in results.values() for each in row["scores"]])


def empty_row(name: str, head_only: bool) -> dict[str, Any]:
    return {
        "set": name,
        "settings": settings(head_only),
        "cpu_seconds": 0.0,
        "scores": [],
        "device": machine.device(),
        "machine": machine.describe(),
    }


def settings(head_only: bool) -> dict[str, Any]:
    """Return what the results follow from."""
    head = {"start_weight_penalty": START_WEIGHT_PENALTY}
    whole = {
        "start_weight_folds": START_WEIGHT_FOLDS,
        "start_weight_examples": START_WEIGHT_EXAMPLES,
        "standard_errors": STANDARD_ERRORS,
        "clear_standard_errors_of_16_examples": clear_standard_errors(16),
        "head_fallback": HEAD_FALLBACK.model_dump(),
    }
    return {"model": resolve_model(MODEL).digest, **(head if head_only else whole)}


def contenders(
    evaluated: LabelledSet, example_set: LabelledSet, seed: int, options: argparse.Namespace
) -> Iterator[Score]:
    """Yield the scores of one draw; with the first one those without examples."""
    ref = resolve_model(MODEL)
    zero_shot = Engine.from_pretrained(ref)
    examples = few_shot(example_set, SHOTS, seed)
    refuse_overlap(evaluated, examples)
    if seed == 0:
        yield score(zero_shot, evaluated, name=MODEL)
    name, config = (HEAD, head_config()) if options.head else (MODEL, None)
    yield score(fit_few_shot(ref, examples, seed, config), evaluated, name=name, shots=SHOTS, seed=seed)
    regression = LogitRegression(zero_shot, seed).fit(examples)
    yield score(regression, evaluated, name=ON_LOGITS, shots=SHOTS, seed=seed)
    if options.all_baselines:
        encoder = similarity_checkpoint(MODEL)
        if seed == 0:
            bare = Engine(encoder)
            yield score(bare, evaluated, name=bare.ref.uri)
        classifier = EmbeddingClassifier(encoder, seed).fit(examples)
        yield score(classifier, evaluated, name=ON_EMBEDDINGS, shots=SHOTS, seed=seed)


def show(scores: list[Score]) -> None:
    show_scores(Console(width=150), scores)
    sets = sorted({each.name for each in scores})
    trained = dict.fromkeys(each.contender for each in scores if each.shots)
    for contender in trained:
        losses = {name: zero(scores, name) - fmean(few(scores, name, contender)) for name in sets}
        worst = max(losses, key=lambda name: losses[name])
        relative = [fmean(few(scores, name, contender)) / zero(scores, name) - 1 for name in sets]
        draws = min(len(few(scores, name, contender)) for name in sets)
        means = [fmean(few(scores, name, contender)[seed] for name in sets) for seed in range(draws)]
        zero_mean = fmean(zero(scores, name) for name in sets)
        gains = [mean / zero_mean - 1 for mean in means]
        gain, spread = fmean(gains), 100 * stdev(gains) if draws > 1 else 0.0
        print(
            f"{contender}, {SHOTS} examples a label against none: {gain:+.0%} of mean macro-F1 (standard deviation of "
            f"the draws {spread:.1f} points), {fmean(relative):+.0%} mean of the sets; worst: {worst} "
            f"{-losses[worst]:+.3f}"
        )


def zero(scores: list[Score], name: str) -> float:
    return next(each.macro_f1 for each in scores if (each.contender, each.name, each.shots) == (MODEL, name, 0))


def few(scores: list[Score], name: str, contender: str) -> list[float]:
    """Return the macro-F1 of each draw."""
    return [each.macro_f1 for each in scores if (each.contender, each.name, each.shots) == (contender, name, SHOTS)]


if __name__ == "__main__":
    main()
