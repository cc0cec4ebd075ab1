"""Unusual labels are scored, invalid ones refused with a fix."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from gliclass_spark import Engine, Label, LabelSet
from gliclass_spark.errors import LabelSetError

TEXTS = ["deep water", "", "The team won."]


@pytest.fixture
def bert(engine: Callable[..., Engine]) -> Engine:
    return engine("bert")


@pytest.mark.parametrize(
    "labels",
    [
        ["!!!", "???", "..."],
        ["спорт", "体育", "रियासत", "رياضة"],
        ["\N{GRINNING FACE}", "e\N{COMBINING ACUTE ACCENT}t\N{COMBINING ACUTE ACCENT}"],
        {"!": {"?": ["."]}},
        ["labels", "true labels", "null", "0"],
    ],
    ids=["punctuation", "scripts", "signs", "tree of punctuation", "words"],
)
def test_unusual_labels_are_scored(labels: Any, bert: Engine) -> None:
    records = bert.classify(TEXTS, labels)
    assert [record.error and record.error.code for record in records] == [None, "empty_text", None]
    for record in (records[0], records[2]):
        assert list(record.scores) == list(LabelSet.coerce(labels).names)
        assert all(0.0 <= score <= 1.0 for score in record.scores.values())


@pytest.mark.parametrize("token", ["<<LABEL>>", "<<SEP>>", "[SEP]", "[CLS]", "[PAD]", "[MASK]"])
@pytest.mark.parametrize("tree", [False, True], ids=["flat", "tree"])
def test_a_control_token_in_a_label_or_a_branch_is_refused_by_name(token: str, tree: bool, bert: Engine) -> None:
    labels: Any = {f"a{token}": ["b"]} if tree else [f"a{token}b", "fine"]
    with pytest.raises(LabelSetError) as caught:
        bert.classify(TEXTS, labels)
    assert str(caught.value).endswith("holds a control token of the model's tokenizer; reword it")
    assert token in str(caught.value)


def test_a_label_of_500_tokens_is_refused_with_its_size(bert: Engine) -> None:
    long = LabelSet.of(Label(name="water", description="water " * 160), "sport")
    with pytest.raises(LabelSetError, match="shorten"):
        bert.classify(TEXTS, LabelSet.of(Label(name="water", description="a " * 500), "sport"))
    assert len(bert.classify(TEXTS, long)) == 3


def test_no_labels_are_refused(bert: Engine) -> None:
    for none in ([], {}):
        with pytest.raises(LabelSetError, match="holds no label; name at least one"):
            bert.classify(TEXTS, none)


def test_five_thousand_labels_are_one_label_set_with_one_hash() -> None:
    names = [f"label number {number}" for number in range(5000)]
    label_set = LabelSet.of(*names, name="many")
    assert label_set.names == tuple(names)
    assert LabelSet.from_json(label_set.canonical_json).hash == label_set.hash
    with pytest.raises(LabelSetError, match="label 'label number 77' appears twice; remove one"):
        LabelSet.of(*names, "label number 77")


def test_five_thousand_labels_are_scored_and_the_top_three_assigned(tiny_bi_encoder: str) -> None:
    label_set = LabelSet.model_validate(
        {"labels": [f"{number}" for number in range(5000)], "top_k": 3, "threshold": 0.0}
    )
    [record] = Engine.from_pretrained(tiny_bi_encoder, device="cpu").classify(["deep water"], label_set)
    scores = np.array(list(record.scores.values()))
    assert [label.score for label in record.labels] == sorted(scores, reverse=True)[:3]
