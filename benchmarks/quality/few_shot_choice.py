"""Ways to train on eight examples of each label, compared on sets that the embedded model has never seen.

`python -m benchmarks.quality.few_shot DATA --choose` runs it. Of each set's train split some texts are evaluated, and
examples are drawn from the others, several times. Every training is evaluated with its weights averaged with those
before it, at a grid of shares of the start: so one training shows what any rule for the share would give. Rows are kept
after each training, and a run continues where the last one stopped.

The sets are for research alone, so that no version of the embedded model was trained on them. `few_shot_rules` compares
the rules for the share.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks import machine
from benchmarks.quality.few_shot_rules import Row, rules_table, show
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
    show(rules_table(rows), f"macro-F1 with {SHOTS} examples of each label")
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
    evaluated, others = evaluated_and_others(table)
    examples = few_shot(others, shots, seed)
    refuse_overlap(evaluated, examples)
    return Draw(zero_shot, examples, evaluated, seed)


def evaluated_and_others(table: Path) -> tuple[LabelledSet, LabelledSet]:
    """Split the train split of a table into texts to evaluate on and texts to draw examples from."""
    [labelled] = read_sets(table, "train")
    order = np.random.default_rng(0).permutation(len(labelled)).tolist()
    evaluated = labelled.rows(order[:EVALUATED_TEXTS])
    evaluated_texts = {normalized_text(text) for text in evaluated.texts}
    others = [row for row in order[EVALUATED_TEXTS:] if normalized_text(labelled.texts[row]) not in evaluated_texts]
    return evaluated, labelled.rows(others)
