"""Reject and route rules: parsed, checked and hashed before any Spark session exists."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterable, Sequence
from difflib import get_close_matches
from functools import cached_property
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator
from sqlglot import TokenType, exp
from sqlglot.dialects.spark import Spark
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokenizer_core import Token

from gliclass_spark.errors import RulesError

# What tagging adds to a document. A rule may use these beside the document's own columns.
TAG_COLUMNS: tuple[str, ...] = (
    *("content_hash", "label_set", "label_set_hash", "scores", "labels", "token_count", "chunk_count"),
    *("error", "model", "model_digest", "run_id", "tagged_at"),
)
# Tables that stand beside the routes' tables: a route of that name would overwrite one of them.
RESERVED_TABLES = frozenset({"tags", "kept", "rejected", "quarantined", "runs", "feedback", "documents"})


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,62}")
_MANY = 20

# The functions that a rule may call, by Spark's own name. The list is of names and not of sqlglot's
# classes, because sqlglot also knows the functions of thirty other systems, and under such a name
# Spark would call what a user registered. Left out on purpose: whatever is no function of the row
# alone, raises for sport, runs code, or reads the session.
_FUNCTIONS = _words("""
    equal_null ilike in isnan isnotnull isnull like not regexp regexp_like rlike between coalesce if ifnull nanvl
    nullif nullifzero nvl nvl2 when zeroifnull
    abs acos asin atan atan2 bit_count bround cbrt ceil ceiling cos degrees div e exp expm1 factorial floor greatest
    least ln log log10 log1p log2 mod negative pi pmod positive pow power radians rint round sign signum sin sqrt tan
    tanh try_add try_divide try_mod try_multiply try_subtract width_bucket
    ascii base64 bit_length btrim char char_length character_length chr concat concat_ws contains decode elt encode
    endswith find_in_set format_number format_string initcap instr is_valid_utf8 lcase left len length levenshtein
    locate lower lpad ltrim luhn_check make_valid_utf8 mask octet_length overlay position printf regexp_count
    regexp_extract regexp_extract_all regexp_instr regexp_replace regexp_substr repeat replace reverse right rpad rtrim
    sentences soundex space split split_part startswith substr substring substring_index to_char translate trim
    try_to_binary try_to_number try_validate_utf8 ucase unbase64 unhex upper
    crc32 hash hex md5 sha sha1 sha2 xxhash64
    aggregate array array_append array_compact array_contains array_distinct array_except array_insert array_intersect
    array_join array_max array_min array_position array_prepend array_remove array_repeat array_size array_sort
    array_union arrays_overlap arrays_zip cardinality element_at exists filter flatten forall get map map_concat
    map_contains_key map_entries map_filter map_from_arrays map_from_entries map_keys map_values map_zip_with
    named_struct reduce sequence size slice sort_array str_to_map struct transform transform_keys transform_values
    try_element_at zip_with
    add_months date_add date_diff date_format date_from_unix_date date_part date_sub date_trunc dateadd datediff
    datepart day dayname dayofmonth dayofweek dayofyear extract from_unixtime hour last_day
    make_date make_timestamp minute month monthname months_between next_day quarter second timestamp_micros
    timestamp_millis timestamp_seconds to_date to_timestamp to_unix_timestamp trunc try_make_timestamp
    try_to_date try_to_timestamp unix_date unix_micros unix_millis unix_seconds weekday weekofyear year
    bigint binary boolean cast date decimal double float int smallint string timestamp tinyint try_cast
    get_json_object json_array_length json_object_keys try_parse_url try_url_decode url_encode
    """)
# Words of the grammar that may stand before a parenthesis without being a call.
_KEYWORDS = _words("all and any both case div else for from leading or some then trailing")
# Known to answer differently when the same row is read again; kept apart only for a better message.
_UNSTEADY_CALLS = _words("""
    curdate input_file_block_length input_file_block_start input_file_name monotonically_increasing_id now rand
    randn random randstr shuffle spark_partition_id uniform unix_timestamp uuid
    """)
# The same, and refused even without parentheses: Spark calls most of them where no column has the name.
_UNSTEADY_WORDS = _words("current_date current_time current_timestamp current_user localtimestamp session_user")
_UNSTEADY_LITERAL = re.compile(r"\s*(now|today|tomorrow|yesterday)\b", re.IGNORECASE)
_UNSTEADY = "answers differently from run to run; compute a column in an earlier step, and use that"

_FORBIDDEN: tuple[tuple[tuple[type[exp.Expr], ...], str], ...] = (
    ((exp.Query,), "is a query, and a rule sees one row; join in an earlier step, and use the column"),
    ((exp.Window, exp.Filter), "looks at other rows, and a rule sees one; compute a column in an earlier step"),
    ((exp.AggFunc,), "is an aggregate, and a rule sees one row; compute a column in an earlier step"),
    ((exp.Star,), "stands for every column; name the ones that you mean"),
    ((exp.Placeholder, exp.Parameter), "is a parameter that nobody fills in; write the value itself"),
)
_STRINGS = (exp.Literal, exp.RawString)
_VALUES = (
    *(*_STRINGS, exp.Tuple, exp.Interval, exp.Neg, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod),
    *(exp.DPipe, exp.BitwiseAnd, exp.BitwiseOr, exp.BitwiseXor, exp.BitwiseNot),
)
_ALLOWED = (
    *(exp.Column, exp.Identifier, exp.Dot, exp.Boolean, exp.Null, exp.Var, exp.Bracket, exp.Lambda, *_VALUES),
    *(exp.Connector, exp.Not, exp.Paren, exp.Predicate, exp.Escape, exp.PropertyEQ, exp.Func),
    *(exp.DataType, exp.DataTypeParam),
)
_STRING_TOKENS = (TokenType.STRING, TokenType.RAW_STRING)
_SPARK = Spark()


class _Rule(BaseModel):
    """A Spark SQL condition on one row. A condition that is NULL for a row does not match it.

    Raises RulesError when the text is anything but one condition made of columns, values, operators
    and Spark's built-in functions of the row alone.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    when: Annotated[str, StringConstraints(strip_whitespace=True)]

    @property
    def title(self) -> str:
        raise NotImplementedError

    @model_validator(mode="after")
    def _safe(self) -> _Rule:
        _parse(self.when, self.title)
        return self


class RejectRule(_Rule):
    """Documents that match go to `rejected` with this reason."""

    reason: str

    @property
    def title(self) -> str:
        return f"reject rule {self.reason!r}"


class Route(_Rule):
    """Documents that match go to the table of this name."""

    route: str

    @property
    def title(self) -> str:
        return f"route {self.route!r}"


class Rules(BaseModel):
    """What becomes of a tagged document. The first reject rule that matches rejects it; the others
    are kept, and go to the first route that matches, or to `default_route`.

    Raises RulesError on a name that is used twice, is reserved, or could leave its folder.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, ignored_types=(cached_property,))

    reject: tuple[RejectRule, ...] = ()
    routes: tuple[Route, ...] = ()
    default_route: str = "unrouted"

    @model_validator(mode="after")
    def _named_apart(self) -> Rules:
        default = (f"default_route {self.default_route!r}", self.default_route)
        destinations = [*((route.title, route.route) for route in self.routes), default]
        for group in ([(rule.title, rule.reason) for rule in self.reject], destinations):
            seen: set[str] = set()
            for title, name in group:
                if not _NAME.fullmatch(name):
                    raise RulesError(f"{title}: a name has 1 to 63 of a-z, 0-9 and _, and begins with no _; rename it")
                if group is destinations and name in RESERVED_TABLES:
                    raise RulesError(f"{title}: the jobs keep a table of that name themselves; rename it")
                if name in seen:
                    raise RulesError(f"{title}: the name is used twice; rename one")
                seen.add(name)
        return self

    @property
    def destinations(self) -> tuple[str, ...]:
        """Every name that a kept document can be routed to, the default last."""
        return (*(route.route for route in self.routes), self.default_route)

    def check(self, columns: Iterable[str], labels: Iterable[str], source: str) -> None:
        """Raise RulesError if a rule names a label that is not asked, or a column that is neither one
        of the documents' `columns` nor one of TAG_COLUMNS. `source` says where the rules stand.
        """
        self.check_labels(labels, source)
        known = (*columns, *TAG_COLUMNS)
        folded = {column.lower() for column in known}
        for rule in (*self.reject, *self.routes):
            for column in _parse(rule.when, rule.title).find_all(exp.Column):
                name = column.parts[0].name
                if name.lower() not in folded:
                    raise RulesError(f"{source}: {rule.title}: unknown column {name!r}; {_suggest(name, known)}")

    def check_labels(self, labels: Iterable[str], source: str) -> None:
        """The half of `check` that needs no table: raise RulesError on a label that is not asked."""
        known = tuple(labels)
        for rule in (*self.reject, *self.routes):
            for node in _parse(rule.when, rule.title).walk():
                for key in _label_keys(node):
                    if isinstance(key, _STRINGS):
                        if key.name not in known:
                            hint = _suggest(key.name, known)
                            raise RulesError(f"{source}: {rule.title}: unknown label {key.name!r}; {hint}")
                    elif not key.find(exp.Column, exp.Identifier):
                        why = "is a label put together; write it as one text, with \\' for a quote in it"
                        raise RulesError(f"{source}: {rule.title}: {_sql(key)} {why}")

    @cached_property
    def canonical_json(self) -> str:
        """One spelling for one set of rules: sorted keys, no white space between them."""
        return json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"), ensure_ascii=False)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of `canonical_json`, in hexadecimal."""
        return hashlib.sha256(self.canonical_json.encode()).hexdigest()


def _parse(when: str, title: str) -> exp.Expr:
    """The condition as a tree. Raises RulesError, led by the rule's title, if it is not a safe one."""
    tree: exp.Expr | None = None
    try:
        tokens = _SPARK.tokenize(when)
        problem = _text_problem(when, tokens)
        if problem is None:
            tree = _SPARK.parser().parse_into(exp.Condition, tokens, when)[0]
    except TokenError:
        problem = f"{when!r} can't be read; close the quote or the comment that it opens"
    except RecursionError:
        problem = "the condition is nested too deeply; split it into several rules"
    except Exception as error:  # a call with too few arguments raises whatever sqlglot stumbles over
        near = error.errors[0].get("highlight") if isinstance(error, ParseError) else None
        seen = f", see {near!r}" if near else ""
        problem = f"{when!r} is not one SQL expression{seen}; write one such as scores['web'] >= 0.5"
    if tree is None:
        why = problem or "the condition is empty; write one such as scores['web'] >= 0.5"
        raise RulesError(f"{title}: {why}")
    problem = _tree_problem(tree) or _call_problem(tokens, tree)
    if problem:
        raise RulesError(f"{title}: {problem}")
    return tree


def _text_problem(when: str, tokens: Sequence[Token]) -> str | None:
    """What no rule may hold, wherever in the expression it stands."""
    if any(token.comments for token in tokens):
        return "the condition holds a comment; write it behind a # in the YAML file instead"
    if "${" in when:
        return "'${' would be replaced by Spark after this check; write the value itself"
    for token in tokens:
        if token.token_type is TokenType.SEMICOLON:
            return "';' ends a statement, and a rule is one expression; remove it"
        if token.token_type not in _STRING_TOKENS and token.text.lower() in _UNSTEADY_WORDS:
            return f"{token.text!r} {_UNSTEADY}"
    return None


def _tree_problem(tree: exp.Expr) -> str | None:
    for node in tree.walk():
        for types, why in _FORBIDDEN:
            if isinstance(node, types):
                return f"{_sql(node)} {why}"
        if isinstance(node, (exp.Any, exp.All)) and not isinstance(node.parent, (exp.Like, exp.ILike)):
            return f"{_sql(node)} is only for LIKE; to look at other rows, compute a column in an earlier step"
        if not isinstance(node, _ALLOWED):
            return f"{_sql(node)} is nothing that a rule may hold; use columns, values, operators and functions"
        timed = isinstance(node, exp.Cast) and node.to.is_type(*exp.DataType.TEMPORAL_TYPES)
        if timed and isinstance(node.this, _STRINGS) and _UNSTEADY_LITERAL.match(node.this.name):
            return f"{_sql(node)} {_UNSTEADY}"
    # Below AND, OR, NOT and parentheses stand conditions; no tag column is one by itself.
    for node in tree.walk(prune=lambda node: not isinstance(node, (exp.Connector, exp.Not, exp.Paren))):
        base = node.this if isinstance(node, exp.Bracket) else node
        if isinstance(node, _VALUES) or (isinstance(base, exp.Column) and _root(base) in TAG_COLUMNS):
            return f"{_sql(node)} is a value and no condition; compare it, as in scores['web'] >= 0.5"
    return None


def _call_problem(tokens: Sequence[Token], tree: exp.Expr) -> str | None:
    """A call of anything but a listed function. Names are read off the text, as Spark will read them:
    sqlglot's tree holds its own names, and keeps `Anonymous` for those it does not know.
    """
    names = [node.name for node in tree.find_all(exp.Anonymous)]
    for before, token, after in zip([None, *tokens], tokens, tokens[1:], strict=False):
        is_name = token.token_type is TokenType.IDENTIFIER or token.text[:1].isidentifier()
        if after.token_type is TokenType.L_PAREN and is_name and token.text.lower() not in _KEYWORDS:
            qualified = before is not None and before.token_type is TokenType.DOT
            names.append(f".{token.text}" if qualified else token.text)
    for name in names:
        if name.lower() in _UNSTEADY_CALLS:
            return f"{name + '()'!r} {_UNSTEADY}"
        if name.lower() not in _FUNCTIONS:
            why = "is none of Spark's built-in functions of one row that a rule may call"
            near = _near(name, _FUNCTIONS)
            otherwise = f"{near} Otherwise compute" if near else "compute"
            return f"{name + '()'!r} {why}; {otherwise} a column in an earlier step, and use that"
    return None


def _label_keys(node: exp.Expr) -> list[exp.Expr]:
    """What stands where a label is meant: in scores[...], scores.x, array_contains(labels, ...),
    arrays_overlap(labels, array(...)), labels[0] = ...; `element_at` parses as a bracket.
    """
    if isinstance(node, exp.Column) and _root(node) == "scores":
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


def _root(column: exp.Column) -> str:
    """The column's own name, in lower case, without the fields that are read from it."""
    return column.parts[0].name.lower()


def _is_column(node: exp.Expr, name: str) -> bool:
    return isinstance(node, exp.Column) and len(node.parts) == 1 and _root(node) == name


def _sql(node: exp.Expr) -> str:
    return repr(node.sql(dialect=_SPARK)[:80])


def _near(name: str, known: Iterable[str]) -> str:
    spelled = {candidate.lower(): candidate for candidate in known}
    matches = get_close_matches(name.lower(), spelled, n=3)
    return f"did you mean {' or '.join(repr(spelled[match]) for match in matches)}?" if matches else ""


def _suggest(name: str, known: Collection[str]) -> str:
    more = f" and {len(known) - _MANY} more" if len(known) > _MANY else ""
    return _near(name, known) or f"there are {', '.join(sorted(known)[:_MANY])}{more}"
