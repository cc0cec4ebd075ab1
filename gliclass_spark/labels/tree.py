"""Label trees: nested branches, flattened to labels with dotted names, and scores nested again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gliclass_spark.errors import LabelSetError
from gliclass_spark.labels.label import MAX_NAME_CHARS, SEPARATOR, Label

Leaf = str | Label
Tree = Mapping[str, "Tree | Sequence[Leaf] | Leaf"]

# Deeper labels would have names over the limit.
_MAX_LEVELS = MAX_NAME_CHARS // 2


def flatten(tree: Mapping[Any, Any], above: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Return the labels of a tree, in order, as documents of `Label`: `{a: {b: [c]}}` has the label `a.b.c`.

    A branch holds branches, or a list of labels, or one label. A label is a name, a mapping in a list, or a `Label`.
    above: the branches above the tree. Raises ValueError for a branch without labels or without a name, and for an
    invalid label.
    """
    if len(above) >= _MAX_LEVELS:
        raise ValueError(f"branch {_dotted(above)} is more than {_MAX_LEVELS} levels deep; flatten the tree")
    labels = []
    seen = set()
    for key, value in tree.items():
        if not isinstance(key, str) or not key.strip():
            raise ValueError(f"branch {key!r}{_under(above)} has no text for a name; give it one, in quotes")
        branches = (*above, key.strip())
        if branches in seen:
            raise ValueError(f"branch {_dotted(branches)} appears twice; put its labels together")
        seen.add(branches)
        if isinstance(value, Mapping):
            branch_labels = flatten(value, branches)
        else:
            leaves = value if isinstance(value, (list, tuple)) else [] if value is None else [value]
            branch_labels = [_leaf(leaf, branches) for leaf in leaves]
        if not branch_labels:
            raise ValueError(f"branch {_dotted(branches)} holds no label; name one, or remove the branch")
        labels += branch_labels
    return labels


def nest(labels: Sequence[Label], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values of labels, given by name, as a tree. Raises LabelSetError, see `LabelSet.nested`."""
    unknown = sorted(values.keys() - {label.name for label in labels})
    if unknown:
        raise LabelSetError(f"the label set has no label {unknown[0]!r}; give the scores of its own labels")
    tree: dict[str, Any] = {}
    for label in labels:
        if label.name not in values:
            continue
        node = tree
        for branch in label.branches:
            node = node.setdefault(branch, {})
            if not isinstance(node, dict):
                raise _name_conflict(branch)
        if label.own_name in node:
            raise _name_conflict(label.own_name)
        node[label.own_name] = values[label.name]
    return tree


def _leaf(leaf: Any, branches: tuple[str, ...]) -> dict[str, Any]:
    if isinstance(leaf, Label):
        leaf = leaf.model_dump(exclude_none=True)
    label = dict(leaf) if isinstance(leaf, Mapping) else {"name": leaf}
    name = label.get("name")
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"label {leaf!r}{_under(branches)} has no text for a name; give it one, in quotes")
    if label.get("group") is not None:
        raise ValueError(
            f"label {name!r}{_under(branches)} has a group of its own; remove it, since its branches are its group"
        )
    return {**label, "name": SEPARATOR.join((*branches, name.strip())), "group": branches}


def _under(branches: tuple[str, ...]) -> str:
    return f" under {_dotted(branches)}" if branches else ""


def _dotted(branches: tuple[str, ...]) -> str:
    return repr(SEPARATOR.join(branches)[:60])


def _name_conflict(name: str) -> LabelSetError:
    return LabelSetError(
        f"{name!r} is a label and a group, or two labels, at one position; rename one to nest the scores"
    )
