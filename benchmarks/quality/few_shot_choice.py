"""Ways to train on eight examples of each label, compared on sets that the embedded model has never seen.

`python -m benchmarks.quality.few_shot DATA --choose` runs it. Of each set's train split some texts are evaluated, and
examples are drawn from the others, several times. Every training is evaluated with its weights averaged with those
before it, at a grid of shares of the start: so one training shows what any rule for the share would give. Rows are kept
after each training, and a run continues where the last one stopped.

The sets are for research alone, so that no version of the embedded model was trained on them.

The criterion: of the rules whose worst set loses at most MAX_LOSS in the mean of its draws, the one with the highest
mean macro-F1; if there is none, the one whose worst set loses least.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from torch import nn

from benchmarks import machine
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.config.training import TrainingConfig
from gliclass_spark.inference.engine import Engine
from gliclass_spark.labels import LabelSet
from gliclass_spark.model.checkpoint import Checkpoint, Model, load
from gliclass_spark.training.data.labelled_text import LabelledSet, few_shot, normalized_text, read_sets
from gliclass_spark.training.evaluation.evaluate import Classifier, refuse_overlap, score
from gliclass_spark.training.evaluation.logit_regression import LogitRegression
from gliclass_spark.training.few_shot import few_shot_config, head_config, without_contradictions
from gliclass_spark.training.held_out_share import SHARES, held_out_gains, held_out_logits
from gliclass_spark.training.supervised import train

MODEL = "embedded"
SHOTS = 8
MORE_SHOTS = 32
EVALUATED_TEXTS = 300
DRAWS = 3
MAX_LOSS = 0.005
# English: sentiment, stance, grammar, truth, emotions, complaints, logs, topics. Sets of two or three labels, of which
# the model already distinguishes most texts, or no model does, are what a few examples can harm.
OF_FEW_LABELS = (
    "airline_sentiment",
    "central_bank_stance",
    "grammatical_cola",
    "news_bias_wording",
    "news_fact_opinion",
    "nli_sick",
)
SETS = (
    *OF_FEW_LABELS,
    "device_review_stars",
    "sentence_form",
    "political_claim_truth",
    "dialogue_emotion_meld",
    "airline_complaint",
    "log_source",
    "math_problem_kind",
    "news_sentence_topic",
    "news_policy_topic",
    "book_genre",
)
# Of a held-out example's log likelihood, in nats, with this share of the weights before the training.
CLEAR_GAIN, CLEAR_GAIN_SHARE = 0.1, 0.3
COUNTS = (16, 32, 64, 100, 200)
LEAST_COUNTS = (16, 32)
MOST_COUNTS = (100, 200, 400, None)
STANDARD_ERRORS = (0.0, 1.0, 2.0)
CLEAR_GAIN_RULE = f"held out folds, 2 s.e., c = {LEAST_COUNTS[0]} to any"

Row = dict[str, Any]
Shares = Sequence[float]


@dataclass(frozen=True)
class Draw:
    """Examples and the texts that a training on them is evaluated on."""

    zero_shot: Engine
    examples: LabelledSet
    evaluated: LabelledSet
    seed: int

    @property
    def config(self) -> TrainingConfig:
        """The settings of `evaluate --shots`, without an average of weights."""
        return few_shot_config(self.examples, self.seed).model_copy(
            update={"start_weight_folds": None, "start_weight_examples": None, "head_fallback": None}
        )

    def f1(self, classifier: Classifier) -> float:
        return score(classifier, self.evaluated, name=MODEL).macro_f1


@dataclass(frozen=True)
class AveragedWeights:
    """A model before and after a training, to be averaged."""

    start: Checkpoint
    trained: nn.Module

    @torch.no_grad()
    def engine(self, start_share: float) -> Engine:
        """Return an engine of the trained weights with this share of those before."""
        model = deepcopy(self.start.model)
        trained = dict(self.trained.named_parameters())
        for name, weight in model.named_parameters():
            weight.copy_(trained[name].lerp(weight, start_share))
        return Engine(replace(self.start, model=model))


@dataclass(frozen=True)
class FixedLogits:
    """A classifier with known logits of the evaluated texts."""

    texts: tuple[str, ...]
    known: NDArray[np.float32]

    def logits(self, texts: Sequence[str], labels: LabelSet) -> NDArray[np.float32]:
        return self.known[: len(texts)]


def trained_on(examples: LabelledSet, config: TrainingConfig) -> AveragedWeights:
    start, trained = load(resolve_model(MODEL)), load(resolve_model(MODEL))
    with tempfile.TemporaryDirectory() as folder:
        train(trained.model, trained.tokenizer, [without_contradictions(examples)], config, Path(folder))
    return AveragedWeights(start, trained.model)


def whole_model(draw: Draw) -> Row:
    """F1 by share, of averaged weights and of averaged logits."""
    averaged = trained_on(draw.examples, draw.config)
    label_set = LabelSet.of(*draw.evaluated.labels, multi_label=False)
    start = draw.zero_shot.logits(draw.evaluated.texts, label_set)
    end = averaged.engine(0.0).logits(draw.evaluated.texts, label_set)
    mixed = (FixedLogits(draw.evaluated.texts, share * start + (1 - share) * end) for share in SHARES)
    return {"f1": by_share(draw, averaged), "f1_of_logits": [draw.f1(logits) for logits in mixed]}


def held_out_folds(draw: Draw, folds: int = 2) -> Row:
    """Gains of held-out examples by share, of trainings of the whole model."""
    config = draw.config
    texts = config.sampling.texts * (folds - 1) // folds
    config = config.model_copy(update={"sampling": config.sampling.model_copy(update={"texts": texts})})
    return held_out_gains_row(draw, folds, config)


def held_out_gains_row(draw: Draw, folds: int, config: TrainingConfig) -> Row:
    """Mean gains in log likelihood of held-out examples by share, and standard errors: each fold by its own training.

    The logits are divided by a temperature, the best of each share.
    """
    start = load(resolve_model(MODEL))

    def train_fold(model: Model, examples: Sequence[LabelledSet]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            train(model, start.tokenizer, examples, config, Path(folder))

    by_share = held_out_logits(start.model, start.tokenizer, [draw.examples], folds, config.max_text_tokens, train_fold)
    gain, error = held_out_gains(by_share)
    return {"tempered_gain": gain.round(5).tolist(), "tempered_gain_error": error.round(5).tolist()}


def four_folds(draw: Draw) -> Row:
    """The same with four folds: each training has three quarters of the examples, and all take three times as long."""
    return held_out_folds(draw, 4)


def longer(draw: Draw) -> Row:
    """F1 by share of a training of twice as many steps."""
    config = draw.config
    return {"f1": by_share(draw, trained_on(draw.examples, config.model_copy(update={"steps": 2 * config.steps})))}


def low_rank(draw: Draw) -> Row:
    """F1 by share of adapters of rank 4 in place of the encoder's weights."""
    config = draw.config.model_copy(update={"lora_rank": 4, "encoder_lr": 5e-4})
    return {"f1": by_share(draw, trained_on(draw.examples, config))}


def reworded(draw: Draw) -> Row:
    """F1 by share of a training with other wordings of the labels in half of the batches."""
    config = draw.config
    config = config.model_copy(update={"sampling": config.sampling.model_copy(update={"reworded_share": 0.5})})
    return {"f1": by_share(draw, trained_on(draw.examples, config))}


def head(draw: Draw) -> Row:
    """F1 by share of the training of the projections alone, held at the start by an L2 penalty."""
    return {"f1": by_share(draw, trained_on(draw.examples, head_config()))}


def head_folds(draw: Draw) -> Row:
    """Gains of held-out examples by share, of trainings of the projections alone."""
    return held_out_gains_row(draw, 2, head_config())


def regression(draw: Draw) -> Row:
    """F1 of logistic regression on the zero-shot logits."""
    return {"f1": [draw.f1(LogitRegression(draw.zero_shot, draw.seed).fit(draw.examples))]}


def more_examples(draw: Draw) -> Row:
    """F1 by share of a training on MORE_SHOTS examples of each label."""
    return {"f1": by_share(draw, trained_on(draw.examples, draw.config))}


TRAININGS = {
    training.__name__: training
    for training in (
        whole_model,
        held_out_folds,
        four_folds,
        longer,
        low_rank,
        head,
        head_folds,
        regression,
        reworded,
        more_examples,
    )
}


def by_share(draw: Draw, averaged: AveragedWeights) -> list[float]:
    return [*(draw.f1(averaged.engine(share)) for share in SHARES[:-1]), draw.f1(draw.zero_shot)]


def choose(data: Path, path: Path, trainings: Sequence[str], draws: int) -> None:
    """Run what is not in the file of results, keep each row in it, and print the table."""
    model = resolve_model(MODEL).digest
    document = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    rows: list[Row] = document.get("measured", [])
    if rows and document["model"] != model:
        raise SystemExit(f"{path} has results of the model {document['model'][:12]}; give another folder, --out")
    done = {(row["training"], row["set"], row["draw"]) for row in rows}
    zero_shot = Engine.from_pretrained(MODEL)
    for training in trainings:
        for seed in range(draws):
            for name in OF_FEW_LABELS if training == more_examples.__name__ else SETS:
                if (training, name, seed) in done:
                    continue
                started = time.process_time()
                shots = MORE_SHOTS if training == more_examples.__name__ else SHOTS
                draw = drawn(data / f"{name}.parquet", zero_shot, seed, shots)
                row = {"training": training, "set": name, "draw": seed, "labels": len(draw.examples.labels)}
                row |= {"examples": len(draw.examples), **TRAININGS[training](draw)}
                rows.append({**row, "cpu_seconds": round(time.process_time() - started, 1)})
                document = {"model": model, "machine": machine.describe(), "rows": rules_table(rows)}
                document |= {"enough_examples": enough_examples(rows), "shares": SHARES, "measured": rows}
                path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
                print(rows[-1], flush=True)
    show(rules_table(rows))
    print(f"a gain of {CLEAR_GAIN:g} nats is twice its standard error with {enough_examples(rows)} examples")


def enough_examples(rows: Sequence[Row]) -> int | None:
    """Return with how many examples CLEAR_GAIN is twice its standard error, by the median deviation of the draws."""
    share = SHARES.index(CLEAR_GAIN_SHARE)
    deviations = [
        row["tempered_gain_error"][share] * row["examples"] ** 0.5
        for row in rows
        if row["training"] == held_out_folds.__name__
    ]
    return round((2 * median(deviations) / CLEAR_GAIN) ** 2) if deviations else None


def drawn(table: Path, zero_shot: Engine, seed: int, shots: int) -> Draw:
    [labelled] = read_sets(table, "train")
    order = np.random.default_rng(0).permutation(len(labelled)).tolist()
    evaluated = labelled.rows(order[:EVALUATED_TEXTS])
    evaluated_texts = {normalized_text(text) for text in evaluated.texts}
    others = [row for row in order[EVALUATED_TEXTS:] if normalized_text(labelled.texts[row]) not in evaluated_texts]
    examples = few_shot(labelled.rows(others), shots, seed)
    refuse_overlap(evaluated, examples)
    return Draw(zero_shot, examples, evaluated, seed)


# A rule: from a set's rows by training to the F1 that it gives.
Rule = Callable[[dict[str, Row]], float]


def rules() -> Iterator[tuple[str, tuple[str, ...], Rule]]:
    """Yield each rule's name, the trainings that it needs, and the rule."""
    for training, wording in (
        ("whole_model", "weights"),
        ("longer", "twice the steps"),
        ("reworded", "reworded labels"),
        ("low_rank", "rank 4"),
    ):
        for count in COUNTS:
            yield f"{wording}, c = {count}", (training,), partial(averaged_f1, training=training, count=count)
    for count in COUNTS:
        yield f"logits, c = {count}", ("whole_model",), partial(averaged_f1, count=count, key="f1_of_logits")
    for folds in (held_out_folds, four_folds):
        for errors, least, most in product(STANDARD_ERRORS, LEAST_COUNTS, MOST_COUNTS):
            rule = partial(evidence_f1, folds=folds.__name__, errors=errors, least_count=least, most_count=most)
            name = f"{folds.__name__.replace('_', ' ')}, {errors:g} s.e., c = {least} to {most or 'any'}"
            yield name, ("whole_model", folds.__name__), rule
    for likelier, count in product((True, False), (0, LEAST_COUNTS[0])):
        rule = partial(fallback_f1, likelier=likelier, count=count)
        name = f"{CLEAR_GAIN_RULE}, else head{' if likelier' if likelier else ''}, c = {count}"
        yield name, ("whole_model", "held_out_folds", "head", "head_folds"), rule
    yield "head", ("head",), lambda rows: float(rows["head"]["f1"][0])
    yield "regression on logits", ("regression",), lambda rows: float(rows["regression"]["f1"][0])


def averaged_f1(rows: dict[str, Row], *, count: float, training: str = "whole_model", key: str = "f1") -> float:
    """F1 with the start's share c / (n + c)."""
    row = rows[training]
    return float(np.interp(count / (row["examples"] + count), SHARES, row[key]))


def evidence_f1(
    rows: dict[str, Row], *, folds: str, errors: float, least_count: float, most_count: float | None
) -> float:
    """F1 with the share whose held-out gain has the highest lower bound, so many standard errors below its mean.

    It is at least c / (n + c) for the smaller count, and at most that for the larger one.
    """
    held_out, row = rows[folds], rows["whole_model"]
    bound = np.array(held_out["tempered_gain"]) - errors * np.array(held_out["tempered_gain_error"])
    # Of equal bounds, the share that is closest to the start.
    share = SHARES[-1 - int(bound[::-1].argmax())]
    least, most = (1.0 if count is None else count / (row["examples"] + count) for count in (least_count, most_count))
    return float(np.interp(min(max(share, least), most), SHARES, row["f1"]))


def fallback_f1(rows: dict[str, Row], *, likelier: bool, count: float) -> float:
    """F1 of the share of evidence_f1 with two standard errors; where that is 1, of the head with the share c / (n + c).

    likelier: the head only where held-out examples become likelier by it in the mean, else the model as it was.
    """
    gain, error = (np.array(rows["held_out_folds"][key]) for key in ("tempered_gain", "tempered_gain_error"))
    if (gain - 2 * error).max() > 0:
        return evidence_f1(rows, folds="held_out_folds", errors=2, least_count=LEAST_COUNTS[0], most_count=None)
    if likelier and rows["head_folds"]["tempered_gain"][0] <= 0:
        return float(rows["whole_model"]["f1"][-1])
    return averaged_f1(rows, count=count, training="head")


def rules_table(rows: Sequence[Row]) -> list[Row]:
    """Return a row for each rule over the draws that have all of its trainings, the whole model's and its folds'."""
    by_draw: dict[tuple[str, int], dict[str, Row]] = {}
    for row in rows:
        by_draw.setdefault((row["set"], row["draw"]), {})[row["training"]] = row
    table = []
    for name, needed, rule in rules():
        zero: dict[str, list[float]] = {}
        trained: dict[str, list[float]] = {}
        for (set_name, _), measured in by_draw.items():
            if all(training in measured for training in (whole_model.__name__, held_out_folds.__name__, *needed)):
                zero.setdefault(set_name, []).append(measured["whole_model"]["f1"][-1])
                trained.setdefault(set_name, []).append(rule(measured))
        if not zero:
            continue
        changes = {each: fmean(trained[each]) - fmean(zero[each]) for each in zero}
        worst = min(changes, key=lambda each: changes[each])
        means = [fmean(map(fmean, scores.values())) for scores in (zero, trained)]
        table.append(
            {
                "rule": name,
                "draws": sum(map(len, zero.values())),
                "none": means[0],
                "f1": means[1],
                "gain": means[1] / means[0] - 1,
                "mean_of_gains": fmean(fmean(trained[each]) / fmean(zero[each]) - 1 for each in zero),
                "worst_set": worst,
                "worst_change": changes[worst],
                "sets_that_lose_more": sum(change < -MAX_LOSS for change in changes.values()),
            }
        )
    return table


def chosen_rule(table: Sequence[Row]) -> Row:
    """Return the row of the criterion, among the rules that were measured on the most draws."""
    most = max(row["draws"] for row in table)
    complete = [row for row in table if row["draws"] == most]
    harmless = [row for row in complete if row["worst_change"] >= -MAX_LOSS]
    return max(harmless, key=lambda row: row["f1"]) if harmless else max(complete, key=lambda row: row["worst_change"])


def show(rows: Sequence[Row]) -> None:
    table = Table(title=f"macro-F1 with {SHOTS} examples of each label")
    table.add_column("rule")
    for heading in (
        "draws",
        "none",
        "trained",
        "gain",
        "mean of gains",
        "worst set",
        "change",
        f"lose over {MAX_LOSS}",
    ):
        table.add_column(heading, justify="right")
    for row in rows:
        cells = (f"{row['none']:.3f}", f"{row['f1']:.3f}", f"{row['gain']:+.1%}", f"{row['mean_of_gains']:+.1%}")
        harm = (row["worst_set"], f"{row['worst_change']:+.3f}", str(row["sets_that_lose_more"]))
        table.add_row(row["rule"], str(row["draws"]), *cells, *harm)
    console = Console(width=150)
    console.print(table)
    console.print(f"chosen: {chosen_rule(rows)['rule']}")
