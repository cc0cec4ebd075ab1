"""Label trees: flattened to labels with dotted names, scores nested again, invalid trees refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from gliclass.pipeline import build_hierarchical_output, flatten_hierarchical_labels
from hypothesis import given
from hypothesis import strategies as st

from gliclass_spark import Label, LabelSet
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.errors import GliclassSparkError, LabelSetError
from gliclass_spark.labels import Tree

MAIL: dict[str, Any] = {
    "sentiment": ["positive", {"name": "negative", "description": "angry or sad", "threshold": 0.3}],
    "topic": {"product": {"phone": ["broken", "late"]}, "invoice": "wrong"},
}

KEYS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=4).filter(
    lambda text: text.isprintable() and text == text.strip()
)
LEAVES = st.lists(KEYS, min_size=1, max_size=3, unique=True)
TREES = st.dictionaries(
    KEYS,
    st.recursive(LEAVES | KEYS, lambda inner: st.dictionaries(KEYS, inner, min_size=1, max_size=3), max_leaves=6),
    min_size=1,
    max_size=3,
).filter(lambda tree: len(set(flatten_hierarchical_labels(tree))) == len(flatten_hierarchical_labels(tree)))


def refusal(tree: Any) -> str:
    with pytest.raises(LabelSetError) as caught:
        LabelSet.of(tree)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def nested_dict(levels: int, leaf: Any = "z") -> Any:
    tree: Any = leaf
    for _ in range(levels):
        tree = {"a": tree}
    return tree


def test_a_label_of_a_tree_is_named_by_its_branches_and_its_own_name() -> None:
    label_set = LabelSet.of(MAIL)
    assert label_set.names == (
        "sentiment.positive",
        "sentiment.negative",
        "topic.product.phone.broken",
        "topic.product.phone.late",
        "topic.invoice.wrong",
    )
    assert label_set.texts[1] == "sentiment.negative: angry or sad"
    assert label_set.thresholds == (0.5, 0.3, 0.5, 0.5, 0.5)
    assert label_set.labels[2].branches == ("topic", "product", "phone")
    assert label_set.labels[0].group == "sentiment"


def test_scores_are_nested_as_the_tree() -> None:
    scores = dict(zip(LabelSet.of(MAIL).names, (0.1, 0.2, 0.3, 0.4, 0.5), strict=True))
    assert LabelSet.of(MAIL).nested(scores) == {
        "sentiment": {"positive": 0.1, "negative": 0.2},
        "topic": {"product": {"phone": {"broken": 0.3, "late": 0.4}}, "invoice": {"wrong": 0.5}},
    }


@given(TREES)
def test_names_and_scores_of_a_tree_are_those_of_the_gliclass_library(tree: dict[str, Any]) -> None:
    label_set = LabelSet.of(tree)
    assert list(label_set.names) == flatten_hierarchical_labels(tree)
    scores = {name: index / len(label_set) for index, name in enumerate(label_set.names)}
    assert label_set.nested(scores) == build_hierarchical_output([], tree, all_scores=scores)


@given(TREES)
def test_a_tree_has_one_hash_in_python_yaml_and_json(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, Any]
) -> None:
    path = tmp_path_factory.mktemp("labels") / "labels.yaml"
    path.write_text(yaml.safe_dump({"labels": tree}, sort_keys=False, allow_unicode=True), encoding="utf-8")
    label_set = LabelSet.of(tree)
    assert LabelSet.from_yaml(path).hash == label_set.hash
    assert LabelSet.from_json(label_set.canonical_json) == label_set
    path.write_text(label_set.to_yaml(), encoding="utf-8")
    assert LabelSet.from_yaml(path) == label_set


def test_a_dot_in_a_name_of_a_flat_set_has_no_meaning() -> None:
    flat = LabelSet.of("topic.web", "v1.0")
    assert flat.names == ("topic.web", "v1.0")
    assert flat.nested({"topic.web": 0.5, "v1.0": 0.6}) == {"topic.web": 0.5, "v1.0": 0.6}
    assert flat.hash != LabelSet.of({"topic": ["web"], "v1": ["0"]}).hash


def test_dots_in_names_of_a_tree_do_not_split_branches() -> None:
    label_set = LabelSet.of({"v1.0": ["a.b"], "v1": {"0": ["c"]}})
    assert label_set.names == ("v1.0.a.b", "v1.0.c")
    assert label_set.nested(dict.fromkeys(label_set.names, 1.0)) == {"v1.0": {"a.b": 1.0}, "v1": {"0": {"c": 1.0}}}


def test_a_group_of_a_flat_label_is_its_branch_and_changes_neither_name_nor_hash_format() -> None:
    label_set = LabelSet.of(Label(name="web", group="topic"), Label(name="joy", group=("mood", "good")), "other")
    assert label_set.texts == ("web", "joy", "other")
    assert label_set.nested({"web": 0.1, "joy": 0.2, "other": 0.3}) == {
        "topic": {"web": 0.1},
        "mood": {"good": {"joy": 0.2}},
        "other": 0.3,
    }
    before = '{"labels":[{"group":"topic","name":"web"}],"multi_label":true,"name":"labels","threshold":0.5}'
    assert LabelSet.of(Label(name="web", group="topic")).canonical_json == before
    assert LabelSet.of(Label(name="web", group=("topic",))).canonical_json == before
    assert LabelSet.of(Label(name="web", group=())) == LabelSet.of("web")


def test_labels_without_a_score_and_empty_branches_are_left_out() -> None:
    label_set = LabelSet.of(MAIL)
    assert label_set.nested({"sentiment.negative": 0.9}) == {"sentiment": {"negative": 0.9}}
    assert label_set.nested({}) == {}


def test_a_score_of_an_unknown_label_is_refused() -> None:
    with pytest.raises(LabelSetError) as caught:
        LabelSet.of(MAIL).nested({"positive": 0.9})
    assert str(caught.value) == "the label set has no label 'positive'; give the scores of its own labels"


@pytest.mark.parametrize(
    "labels",
    [
        (Label(name="spam"), Label(name="phishing", group="spam")),
        (Label(name="phishing", group="spam"), Label(name="spam")),
        (Label(name="spam.a", group="spam"), Label(name="a", group="spam")),
    ],
)
def test_a_label_with_the_name_of_a_group_can_be_scored_but_not_nested(labels: tuple[Label, ...]) -> None:
    label_set = LabelSet.of(*labels)
    with pytest.raises(LabelSetError, match="at one position; rename one"):
        label_set.nested(dict.fromkeys(label_set.names, 1.0))


def test_coerce_reads_a_tree() -> None:
    tree: Tree = {"topic": ["web"]}
    assert LabelSet.coerce(tree) == LabelSet.of(tree)


def test_rules_of_a_pipeline_name_nested_labels_by_their_dotted_names(tmp_path: Path) -> None:
    path = tmp_path / "mail.yaml"
    rule = "scores['{}'] >= 0.8 OR array_contains(labels, 'mood.glad')"
    document = {
        "name": "mail",
        "source": {"path": "documents", "id": "id", "text": "text"},
        "label_set": {"labels": {"mood": ["glad"], "topic": {"goods": "parcel"}}, "top_k": 1},
        "tables": "lake",
        "reject": [{"reason": "parcels", "when": rule.format("topic.goods.parcel")}],
    }
    path.write_text(yaml.safe_dump(document))
    assert Pipeline.from_yaml(path).label_set.names == ("mood.glad", "topic.goods.parcel")
    path.write_text(yaml.safe_dump({**document, "reject": [{"reason": "parcels", "when": rule.format("parcel")}]}))
    with pytest.raises(GliclassSparkError, match="'parcel'"):
        Pipeline.from_yaml(path)


def test_white_space_around_a_branch_is_stripped() -> None:
    assert LabelSet.of({" topic ": [" web "]}) == LabelSet.of({"topic": ["web"]})


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ({}, "holds no label; name at least one"),
        ({"topic": []}, "branch 'topic' holds no label; name one, or remove the branch"),
        ({"topic": None}, "branch 'topic' holds no label; name one, or remove the branch"),
        ({"topic": {"web": {}}}, "branch 'topic.web' holds no label; name one, or remove the branch"),
        ({"topic": [True]}, "label True under 'topic' has no text for a name; give it one, in quotes"),
        ({"topic": 7}, "label 7 under 'topic' has no text for a name; give it one, in quotes"),
        ({"topic": ["web", ["art"]]}, "label ['art'] under 'topic' has no text for a name; give it one, in quotes"),
        ({"topic": [" "]}, "label ' ' under 'topic' has no text for a name; give it one, in quotes"),
        (
            {"topic": [{"threshold": 0.5}]},
            "label {'threshold': 0.5} under 'topic' has no text for a name; give it one, in quotes",
        ),
        ({2026: ["web"]}, "branch 2026 has no text for a name; give it one, in quotes"),
        ({"topic": {"": ["web"]}}, "branch '' under 'topic' has no text for a name; give it one, in quotes"),
        ({"topic": ["web"], "topic ": ["art"]}, "branch 'topic' appears twice; put its labels together"),
        ({"a": {"b": ["c"]}, "a.b": ["c"]}, "label 'a.b.c' appears twice; remove one"),
        ({"a": ["b", "b"]}, "label 'a.b' appears twice; remove one"),
        (
            {"a": [{"name": "b", "group": "c"}]},
            "label 'b' under 'a' has a group of its own; remove it, since its branches are its group",
        ),
        (
            nested_dict(200),
            f"branch {'a.' * 30!r} is more than 100 levels deep; flatten the tree",
        ),
    ],
)
def test_an_invalid_tree_is_refused_with_the_branch_and_the_fix(tree: Any, expected: str) -> None:
    assert refusal(tree) == f"LabelSet.of: labels: {expected}"


def test_a_tree_that_contains_itself_is_refused() -> None:
    tree: dict[str, Any] = {}
    tree["a"] = tree
    assert "is more than 100 levels deep" in refusal(tree)


def test_a_name_that_is_too_long_with_its_branches_is_refused() -> None:
    assert LabelSet.of(nested_dict(99, "zz")).names == ("a." * 99 + "zz",)
    assert "has 201 characters, at most 200 are read" in refusal(nested_dict(99, "zzz"))


def test_an_unknown_key_in_a_tree_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "mail.yaml"
    path.write_text("labels:\n  topic:\n    - {name: web, treshold: 0.5}\n")
    with pytest.raises(LabelSetError) as caught:
        LabelSet.from_yaml(path)
    assert str(caught.value) == f"{path}: unknown key 'labels.0.treshold'; remove it, or check its spelling"
