"""Examples of a label-cached model: label vectors that move towards them, if held-out examples show a gain."""

from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from gliclass_spark.errors import LabelSetError
from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.results import FloatArray
from gliclass_spark.inference.runners.prototypes import with_prototypes
from gliclass_spark.labels import Example, LabelSet, RetrievedExample
from gliclass_spark.model.architectures.label_cached import LabelStates

QUEUES = LabelSet.of("queue one", "queue two", multi_label=False)
SPORT = [
    "The home team won the match in the last minute.",
    "She broke the world record over 400 metres.",
    "The striker will miss the rest of the season.",
    "Rain stopped play on the third day of the test.",
]
MONEY = [
    "The central bank raised interest rates again.",
    "Shares fell after the company cut its forecast.",
    "Inflation was lower than economists had expected.",
    "The merger creates the country's largest lender.",
]
NEW_TEXTS = ["A penalty decided the cup final.", "The bond market expects a rate cut."]


def examples(texts: dict[str, list[str]]) -> tuple[Example, ...]:
    return tuple(Example(text=text, labels=(label,)) for label, rows in texts.items() for text in rows)


WITH_EXAMPLES = QUEUES.replace(examples=examples({"queue one": SPORT, "queue two": MONEY}))


@pytest.fixture(scope="module")
def embedded() -> Engine:
    return Engine.from_pretrained("embedded", device="cpu", precision="float32")


@pytest.fixture(params=["texts alone", "texts attend to labels"])
def tiny(request: pytest.FixtureRequest, tiny_label_cached_model: str, tiny_bi_encoder: str) -> Engine:
    folder = tiny_bi_encoder if request.param == "texts alone" else tiny_label_cached_model
    return Engine.from_pretrained(folder, device="cpu", precision="float32")


def unit(vectors: FloatArray) -> FloatArray:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def states(vectors: FloatArray) -> LabelStates:
    return LabelStates(torch.from_numpy(vectors), None, torch.zeros(len(vectors), dtype=torch.float64))


def expected_logits(labels: FloatArray, texts: FloatArray, has_label: np.ndarray, scale: float) -> FloatArray:
    """Return the examples' logits, one example and one label at a time."""
    rows_of = [np.flatnonzero(column).tolist() for column in has_label.T]
    known = [label for label, rows in enumerate(rows_of) if len(rows) >= 2]
    shift = np.mean([unit(texts[rows_of[label]].sum(axis=0)) - labels[label] for label in known], axis=0)

    def vector(label: int, weight: float, rows: list[int]) -> FloatArray:
        prototype = unit(texts[rows].sum(axis=0)) if label in known else unit(labels[label] + shift)
        return unit((1 - weight) * labels[label] + weight * prototype)

    def log_likelihood(example: int, weight: float) -> float:
        lacked = np.flatnonzero(~has_label[example])
        logits = [scale * texts[example] @ vector(label, weight, rows_of[label]) for label in lacked]
        terms = []
        for label in set(known) & set(np.flatnonzero(has_label[example])):
            others = [row for row in rows_of[label] if row != example]
            own = scale * texts[example] @ vector(label, weight, others)
            terms.append(own - math.log(sum(map(math.exp, [own, *logits]))) if logits else 0.0)
        return float(np.mean(terms))

    held_out = [row for row in range(len(texts)) if has_label[row, known].any()]
    best, best_gain = 0.0, 0.0
    for weight in np.linspace(0.1, 1, 10):
        gains = [log_likelihood(row, weight) - log_likelihood(row, 0) for row in held_out]
        clear = (2 + 16 / len(gains)) * np.std(gains, ddof=1) / len(gains) ** 0.5
        if np.mean(gains) > max(best_gain, clear):
            best, best_gain = weight, float(np.mean(gains))
    before = scale * texts @ labels.T
    if best == 0:
        return before
    after = scale * texts @ np.stack([vector(label, best, rows) for label, rows in enumerate(rows_of)]).T
    return after + (before - after)[~has_label].mean()


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    shots=st.lists(st.integers(2, 5), min_size=2, max_size=4),
    more_shots=st.lists(st.integers(0, 1), max_size=2),
    spread=st.floats(0.1, 2.0),
)
def test_the_logits_are_those_of_plain_loops(seed: int, shots: list[int], more_shots: list[int], spread: float) -> None:
    rng = np.random.default_rng(seed)
    shots = shots + more_shots
    labels = unit(rng.normal(size=(len(shots), 6)))
    centres = unit(rng.normal(size=(len(shots), 6)))
    own_labels = np.repeat(np.arange(len(shots)), shots)
    texts = unit(centres[own_labels] + spread * rng.normal(size=(len(own_labels), 6)))
    has_label = np.eye(len(shots), dtype=bool)[own_labels]
    has_label[0] |= rng.random(len(shots)) < 0.5  # an example may have several labels
    after = with_prototypes(states(labels), torch.from_numpy(texts), torch.from_numpy(has_label), 5.0)
    logits = 5.0 * texts @ after.vectors.numpy().T + after.logit_offsets.numpy()
    np.testing.assert_allclose(logits, expected_logits(labels, texts, has_label, 5.0), rtol=0, atol=1e-9)


def test_examples_give_labels_a_meaning_that_their_names_lack(embedded: Engine) -> None:
    best = embedded.logits(NEW_TEXTS, WITH_EXAMPLES).argmax(axis=1)
    assert best.tolist() == [0, 1]
    swapped = QUEUES.replace(examples=examples({"queue two": SPORT, "queue one": MONEY}))
    assert embedded.logits(NEW_TEXTS, swapped).argmax(axis=1).tolist() == [1, 0]


def test_the_mean_logit_for_labels_that_an_example_lacks_stays(embedded: Engine) -> None:
    lacked = ~np.eye(2, dtype=bool).repeat(4, axis=0)
    before, after = (embedded.logits(SPORT + MONEY, label_set) for label_set in (QUEUES, WITH_EXAMPLES))
    assert np.abs(after - before).max() > 1
    assert after[lacked].mean() == pytest.approx(before[lacked].mean(), abs=1e-4)


def test_examples_that_contradict_each_other_change_no_score(
    embedded: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    mixed = QUEUES.replace(examples=examples({"queue one": SPORT[:2] + MONEY[:2], "queue two": SPORT[2:] + MONEY[2:]}))
    np.testing.assert_array_equal(embedded.logits(NEW_TEXTS, mixed), embedded.logits(NEW_TEXTS, QUEUES))
    assert "8 examples of 2 labels change no score: held out in turn, they show no clear gain" in caplog.text


def test_promise_1_a_score_depends_neither_on_the_batch_nor_on_the_order_of_the_examples(tiny: Engine) -> None:
    alone = np.concatenate([tiny.logits([text], WITH_EXAMPLES) for text in NEW_TEXTS])
    np.testing.assert_allclose(tiny.logits(NEW_TEXTS, WITH_EXAMPLES), alone, rtol=0, atol=1e-5)
    reversed_examples = QUEUES.replace(examples=WITH_EXAMPLES.examples[::-1])
    np.testing.assert_allclose(tiny.logits(NEW_TEXTS, reversed_examples), alone, rtol=0, atol=1e-5)


def test_texts_with_and_without_examples_share_batches(embedded: Engine, tiny: Engine) -> None:
    other = QUEUES.replace(examples=examples({"queue two": SPORT, "queue one": MONEY}))
    label_sets = [QUEUES, WITH_EXAMPLES, other, LabelSet.of("sport"), WITH_EXAMPLES]
    texts = [*NEW_TEXTS, *NEW_TEXTS, "x"]
    for engine in (embedded, tiny):
        for text, label_set, result in zip(texts, label_sets, engine.classify_each(texts, label_sets), strict=True):
            assert result.scores == pytest.approx(engine.classify([text], label_set)[0].scores, abs=1e-5)
    scores = [embedded.scores(NEW_TEXTS, label_set) for label_set in label_sets[:3]]
    assert all(np.abs(one - two).max() > 0.01 for one, two in combinations(scores, 2))


def test_a_task_prompt_and_a_long_example_are_read_as_in_texts(embedded: Engine) -> None:
    long = [text + " The rest says nothing about it." * 200 for text in SPORT]
    prompted = QUEUES.replace(prompt="Sort the news: ", examples=examples({"queue one": long, "queue two": MONEY}))
    assert embedded.logits(NEW_TEXTS, prompted).shape == (2, 2)


@pytest.mark.parametrize(
    ("names", "texts", "message"),
    [
        (("one", "two"), {"one": SPORT}, "1 of the 2 labels of 'labels' have fewer than 2 examples, among them 'two'"),
        (("one", "two"), {"one": SPORT, "two": MONEY[:1]}, "needs 2 examples of two labels or more, and of half of"),
        (("one", "two", "three", "four", "five"), {"one": SPORT, "two": MONEY}, "3 of the 5 labels"),
    ],
)
def test_too_few_examples_are_refused(
    names: tuple[str, ...], texts: dict[str, list[str]], message: str, tiny: Engine
) -> None:
    with pytest.raises(LabelSetError, match=message):
        tiny.logits(NEW_TEXTS, LabelSet.of(*names).replace(examples=examples(texts)))


def test_a_label_without_examples_is_not_behind_those_with_some(embedded: Engine) -> None:
    """Texts are closer to examples than to any label: unless it moved with the others, "weather" would get no text."""
    labels = LabelSet.of("queue one", "queue two", "weather", multi_label=False)
    label_set = labels.replace(examples=WITH_EXAMPLES.examples)
    texts = [*NEW_TEXTS, "Heavy rain and strong winds are forecast for tomorrow."]
    assert embedded.logits(texts, label_set).argmax(axis=1).tolist() == [0, 1, 2]


def test_retrieved_examples_are_refused(tiny: Engine) -> None:
    retrieved = RetrievedExample(text=SPORT[0], true_labels=("sport",), all_labels=("sport", "money"))
    with pytest.raises(LabelSetError, match="retrieved examples, which a model that encodes each text alone can't"):
        tiny.logits(NEW_TEXTS, QUEUES.replace(retrieved=[retrieved]))
