"""Ways to fit a calibration to few texts, compared on sets that are not those of the report.

`python -m benchmarks.quality.calibration DATA --choose` runs it: each way is fitted to 100 texts, drawn several times,
and to half of the set, and judged on the other half.

The results of the repository are of the second version of the embedded model (digest 3fc5b992aa9e), which was trained
on none of these sets; the present version was trained on some.

The criterion is the mean log loss of the sets with 100 texts, as a proper score; a way must not be worse than the
default with half of the sets.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import product
from statistics import fmean

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.quality.judged_logits import FEW, JudgedLogits
from gliclass_spark.inference.calibration import Ridge, is_one_sided
from gliclass_spark.labels import LabelSet

# English, of two to twenty labels: moderation, spam, sentiment, style, roles, intents, topics.
SETS = (
    "forum_hate",
    "toxicity_surge",
    "clickbait",
    "sms_spam",
    "youtube_comment_spam",
    "email_request",
    "question_well_formed",
    "sarcasm_english",
    "web_boilerplate",
    "news_sentiment_target",
    "tweet_hate_three",
    "poem_sentiment",
    "csabstruct_role",
    "sentence_valence",
    "customer_service_domain",
    "self_driving_sentiment",
    "sentence_genre",
    "hatecheck",
    "stereotype_kind",
    "trivia_topics",
    "assistant_domain_sgd",
)
DRAWS = 5
FOLDS = 5
SLOPES, BIASES = (0.1, 0.3, 1.0, 3.0, 10.0), (0.1, 0.3, 1.0)
CROSS_VALIDATED = tuple(Ridge(slope, 0.3) for slope in (0.1, 1.0, 10.0))
PRIOR_RIDGES = (Ridge(1.0, 0.3), Ridge(10.0, 0.3), Ridge(1000.0, 0.3))
_NO_RIDGE = Ridge(1e-3, 1e-3)

Row = dict[str, float | str]
# From the texts to fit to, and the factor of the logits that suits the other sets, to the fit and the factor it is for.
Way = Callable[[JudgedLogits, float], tuple[LabelSet, float]]


def compare_ways(sets: Sequence[JudgedLogits]) -> list[Row]:
    """Return the means over the sets of log loss and calibration errors of each way, with 100 texts and with half."""
    slopes = [set_slope(judged) for judged in sets]
    rows: list[Row] = []
    for name, way in ways():
        row: Row = {"way": name}
        measured: dict[str, list[list[float]]] = {f"of_{FEW}": [], "of_half": []}
        for position, judged in enumerate(sets):
            prior = float(np.exp(np.mean(np.log(np.delete(slopes, position)))))
            fitted_on, rest = judged.halves()
            few = [judgement(rest, *way(part, prior)) for part in fitted_on.draws(FEW, DRAWS)]
            measured[f"of_{FEW}"].append(np.mean(few, axis=0).tolist())
            measured["of_half"].append(judgement(rest, *way(fitted_on, prior)))
        for size, each in measured.items():
            means = np.mean(each, axis=0).tolist()
            row |= {f"{kind}_{size}": value for kind, value in zip(KINDS, means, strict=True)}
        rows.append(row)
        print(row, flush=True)
    return rows


KINDS = ("log_loss", "pooled", "labels")


def judgement(rest: JudgedLogits, fitted: LabelSet, factor: float) -> list[float]:
    scaled = replace(rest, logits=rest.logits * np.float32(factor))
    errors = scaled.errors(fitted)
    return [scaled.log_loss(fitted), errors["pooled"], errors["labels"]]


def ways() -> Iterator[tuple[str, Way]]:
    for slope, bias in product(SLOPES, BIASES):
        yield f"ridge {slope:g}, {bias:g}", of_ridge(Ridge(slope, bias))
    for ridge in PRIOR_RIDGES:
        yield f"slopes of the other sets, ridge {ridge.slope:g}, {ridge.bias:g}", of_prior(ridge)
    yield "cross-validated ridge", cross_validated


def of_ridge(ridge: Ridge) -> Way:
    return lambda judged, _: (judged.fitted(ridge), 1.0)


def of_prior(ridge: Ridge) -> Way:
    """Return the fit whose ridge draws the slopes to the geometric mean of the other sets'; 1000 fits biases alone."""
    return lambda judged, prior: (replace(judged, logits=judged.logits * np.float32(prior)).fitted(ridge), prior)


def cross_validated(judged: JudgedLogits, _: float) -> tuple[LabelSet, float]:
    """Return the fit with the ridge whose folds have the least log loss."""
    fold = np.arange(len(judged.logits)) % FOLDS

    def loss(ridge: Ridge) -> float:
        losses = []
        for number in range(FOLDS):
            kept = judged.rows(np.flatnonzero(fold != number))
            if not is_one_sided(kept.truth).all():
                losses.append(judged.rows(np.flatnonzero(fold == number)).log_loss(kept.fitted(ridge)))
        return fmean(losses)

    return judged.fitted(min(CROSS_VALIDATED, key=loss)), 1.0


def set_slope(judged: JudgedLogits) -> float:
    """Return the slope of a fit of one line to all scores of the set."""
    one = JudgedLogits(LabelSet.of("any"), judged.logits.reshape(-1, 1), judged.truth.reshape(-1, 1))
    return float(1 / one.fitted(_NO_RIDGE).temperatures[0])


def show_ways(rows: Sequence[Row], console: Console) -> None:
    title = "on the other half, mean of the sets: log loss in nats a score, calibration error of all scores / of labels"
    table = Table(title=title)
    table.add_column("way")
    for heading in (f"of {FEW}: log loss", "error", "of half: log loss", "error"):
        table.add_column(heading, justify="right")
    for row in sorted(rows, key=lambda row: row[f"log_loss_of_{FEW}"]):
        cells = []
        for size in (f"of_{FEW}", "of_half"):
            cells += [f"{row[f'log_loss_{size}']:.5f}", f"{row[f'pooled_{size}']:.4f} / {row[f'labels_{size}']:.4f}"]
        table.add_row(str(row["way"]), *cells)
    console.print(table)
