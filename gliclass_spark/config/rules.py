"""Reject and route rules: validated against labels and columns, and hashed, without a Spark session."""

from __future__ import annotations

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable
from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator
from sqlglot import exp

from gliclass_spark.config.rule_sql import RUN_DATE, STRINGS, TAG_COLUMNS, did_you_mean, excerpt, parse, root
from gliclass_spark.errors import RulesError

# Tables in the same folder as the routes' tables: a route of that name would overwrite one of them.
RESERVED_TABLES = frozenset(
    {"tags", "kept", "rejected", "quarantined", "runs", "feedback", "documents", "staged", "shadow_tags"}
)
Routing = Literal["first_match", "every_match"]

_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,62}")
_MAX_LISTED = 20


class _Rule(BaseModel, ABC):
    """A Spark SQL condition on one row. A row for which it is NULL does not match.

    Raises RulesError unless the text is one condition of columns, values, operators and Spark's deterministic
    built-in functions of a single row.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    when: Annotated[str, StringConstraints(strip_whitespace=True)]
    """A Spark SQL condition on one row, over `scores`, `labels`, `token_count`, `run_date` and the document's own
    columns."""

    @property
    @abstractmethod
    def title(self) -> str:
        """The rule's name in messages."""

    @model_validator(mode="after")
    def _is_safe(self) -> _Rule:
        parse(self.when, self.title)
        return self


class RejectRule(_Rule):
    """A rule whose matching documents go to `rejected` with its reason."""

    reason: str
    """The value of the column `reason` in `rejected`. a-z, 0-9 and `_`."""

    @property
    def title(self) -> str:
        return f"reject rule {self.reason!r}"


class Route(_Rule):
    """A rule whose matching documents go to the table of its name."""

    route: str
    """The name of the table, next to the pipeline's other tables. a-z, 0-9 and `_`."""

    @property
    def title(self) -> str:
        return f"route {self.route!r}"


class Rules(BaseModel):
    """The reject and route rules of a pipeline.

    The first matching reject rule rejects a document. A kept document goes to the first matching route, or with
    `routing: every_match` to every matching route; without a match, to `default_route`.

    Raises RulesError if a name is used twice, is reserved, or could leave its folder.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ignored_types=(cached_property,))

    reject: tuple[RejectRule, ...] = ()
    routes: tuple[Route, ...] = ()
    default_route: str = "unrouted"
    routing: Routing = "first_match"

    @model_validator(mode="after")
    def _names_are_valid(self) -> Rules:
        default = (f"default_route {self.default_route!r}", self.default_route)
        destinations = [*((route.title, route.route) for route in self.routes), default]
        for group in ([(rule.title, rule.reason) for rule in self.reject], destinations):
            seen: set[str] = set()
            for title, name in group:
                if not _NAME.fullmatch(name):
                    raise RulesError(
                        f"{title}: a name has 1 to 63 of a-z, 0-9 and _, and does not begin with _; rename it"
                    )
                if group is destinations and name in RESERVED_TABLES:
                    raise RulesError(f"{title}: the jobs write a table of that name themselves; rename it")
                if name in seen:
                    raise RulesError(f"{title}: the name is used twice; rename one")
                seen.add(name)
        return self

    @property
    def destinations(self) -> tuple[str, ...]:
        """The names of all tables that a kept document can go to, the default last."""
        return (*(route.route for route in self.routes), self.default_route)

    def check(self, columns: Iterable[str], labels: Iterable[str], source: str) -> None:
        """Raise RulesError if a rule names a label that is not in `labels`, or a column that is neither in `columns`
        nor in TAG_COLUMNS, nor RUN_DATE. source: the file of the rules, for messages.
        """
        self.check_labels(labels, source)
        available = (*columns, *TAG_COLUMNS, RUN_DATE)
        folded = {column.lower() for column in available}
        for rule in (*self.reject, *self.routes):
            for column in parse(rule.when, rule.title).find_all(exp.Column):
                name = column.parts[0].name
                if name.lower() not in folded:
                    raise RulesError(f"{source}: {rule.title}: unknown column {name!r}; {_suggest(name, available)}")

    def check_labels(self, labels: Iterable[str], source: str) -> None:
        """Raise RulesError if a rule names a label that is not in `labels`: the part of `check` without a schema."""
        label_names = tuple(labels)
        for rule in (*self.reject, *self.routes):
            for node in parse(rule.when, rule.title).walk():
                for key in _label_keys(node):
                    if isinstance(key, STRINGS):
                        if key.name not in label_names:
                            hint = _suggest(key.name, label_names)
                            raise RulesError(f"{source}: {rule.title}: unknown label {key.name!r}; {hint}")
                    elif not key.find(exp.Column, exp.Identifier):
                        why = "is a label from several texts; write it as one, with \\' for a quote in it"
                        raise RulesError(f"{source}: {rule.title}: {excerpt(key)} {why}")

    @cached_property
    def uses_run_date(self) -> bool:
        """Whether a rule names the column `run_date`."""
        trees = (parse(rule.when, rule.title) for rule in (*self.reject, *self.routes))
        return any(root(column) == RUN_DATE for tree in trees for column in tree.find_all(exp.Column))

    @cached_property
    def canonical_json(self) -> str:
        """The rules as JSON that is the same for equal rules: sorted keys, no white space."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of `canonical_json`, in hexadecimal."""
        return hashlib.sha256(self.canonical_json.encode()).hexdigest()


def _label_keys(node: exp.Expr) -> list[exp.Expr]:
    """Return the expressions of a node that are label names.

    As in scores[...], scores.x, array_contains(labels, ...), arrays_overlap(labels, array(...)), labels[0] = ...;
    `element_at` parses as a bracket.
    """
    if isinstance(node, exp.Column) and root(node) == "scores":
        return [exp.Literal.string(part.name) for part in node.parts[1:2]]
    if isinstance(node, exp.Bracket) and _is_column(node.this, "scores"):
        return list(node.expressions)
    if isinstance(node, exp.MapContainsKey) and _is_column(node.this, "scores"):
        return [node.args["key"]]
    sides: list[exp.Expr] = []
    if isinstance(node, (exp.ArrayContains, exp.ArrayOverlaps, exp.EQ, exp.NEQ)):
        sides = [node.this, node.expression]
    elif isinstance(node, exp.Anonymous) and node.name.lower() == "arrays_overlap":
        sides = node.expressions  # this version of sqlglot leaves the call without a class in Spark's dialect
    for side, other in zip(sides, reversed(sides), strict=True):
        if _is_column(side.this if isinstance(side, exp.Bracket) else side, "labels"):
            return list(other.expressions) if isinstance(other, exp.Array) else [other]
    return []


def _is_column(node: exp.Expr, name: str) -> bool:
    return isinstance(node, exp.Column) and len(node.parts) == 1 and root(node) == name


def _suggest(name: str, available: Collection[str]) -> str:
    more = f" and {len(available) - _MAX_LISTED} more" if len(available) > _MAX_LISTED else ""
    return did_you_mean(name, available) or f"there are {', '.join(sorted(available)[:_MAX_LISTED])}{more}"
