"""Nested labels: a tree of branches becomes labels with dotted names, and what they get becomes a tree again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gliclass_spark.errors import LabelSetError
from gliclass_spark.labels.label import MAX_NAME_CHARS, SEPARATOR, Label

Leaf = str | Label
Tree = Mapping[str, "Tree | Sequence[Leaf] | Leaf"]

# The name of a label further down would be longer than any name may be.
_MAX_LEVELS = MAX_NAME_CHARS // 2


def flattened(tree: Mapping[Any, Any], above: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The labels of a tree, in its order, as `Label` reads them: `{a: {b: [c]}}` has the label `a.b.c`.

    A branch holds branches, or labels; one label may stand without a list. A label that is more than a
    name is a mapping in a list, or a `Label`. above: the branches that the tree stands under. Raises
    ValueError for a branch without labels or without a name, and for what is no label.
    """
    if len(above) >= _MAX_LEVELS:
        raise ValueError(f"branch {_shown(above)} is more than {_MAX_LEVELS} levels deep; flatten the tree")
    found = []
    seen = set()
    for key, held in tree.items():
        if not isinstance(key, str) or not key.strip():
            raise ValueError(f"branch {key!r}{_under(above)} has no text for a name; give it one, in quotes")
        branches = (*above, key.strip())
        if branches in seen:
            raise ValueError(f"branch {_shown(branches)} appears twice; put its labels together")
        seen.add(branches)
        if isinstance(held, Mapping):
            below = flattened(held, branches)
        else:
            leaves = held if isinstance(held, (list, tuple)) else [] if held is None else [held]
            below = [_leaf(leaf, branches) for leaf in leaves]
        if not below:
            raise ValueError(f"branch {_shown(branches)} holds no label; name one, or remove the branch")
        found += below
    return found


def nested(labels: Sequence[Label], values: Mapping[str, Any]) -> dict[str, Any]:
    """The values of the labels, by name, as a tree. Raises LabelSetError, see `LabelSet.nested`."""
    unknown = sorted(values.keys() - {label.name for label in labels})
    if unknown:
        raise LabelSetError(f"the label set has no label {unknown[0]!r}; give the scores of its own labels")
    found: dict[str, Any] = {}
    for label in labels:
        if label.name not in values:
            continue
        inner = found
        for branch in label.branches:
            inner = inner.setdefault(branch, {})
            if not isinstance(inner, dict):
                raise _in_the_way(branch)
        if label.own_name in inner:
            raise _in_the_way(label.own_name)
        inner[label.own_name] = values[label.name]
    return found


def _leaf(leaf: Any, branches: tuple[str, ...]) -> dict[str, Any]:
    if isinstance(leaf, Label):
        leaf = leaf.model_dump(exclude_none=True)
    label = dict(leaf) if isinstance(leaf, Mapping) else {"name": leaf}
    name = label.get("name")
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"label {leaf!r}{_under(branches)} has no text for a name; give it one, in quotes")
    if label.get("group") is not None:
        raise ValueError(f"label {name!r}{_under(branches)} has a group of its own; remove it, its branches say it")
    return {**label, "name": SEPARATOR.join((*branches, name.strip())), "group": branches}


def _under(branches: tuple[str, ...]) -> str:
    return f" under {_shown(branches)}" if branches else ""


def _shown(branches: tuple[str, ...]) -> str:
    return repr(SEPARATOR.join(branches)[:60])


def _in_the_way(name: str) -> LabelSetError:
    return LabelSetError(
        f"{name!r} is a label and a group, or two labels, in one place; rename one to show scores nested"
    )
