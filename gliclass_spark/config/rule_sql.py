"""One SQL condition on one row, read and found safe before any Spark session exists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from sqlglot import TokenType, exp
from sqlglot.dialects.spark import Spark
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokenizer_core import Token

from gliclass_spark.errors import RulesError

# What tagging adds to a document. A rule may use these beside the document's own columns.
TAG_COLUMNS: tuple[str, ...] = (
    *("content_hash", "label_set", "label_set_hash", "scores", "labels", "token_count", "chunk_count"),
    *("error", "model", "model_digest", "explored", "run_id", "tagged_at"),
)


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


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
STRINGS = (exp.Literal, exp.RawString)
_VALUES = (
    *(*STRINGS, exp.Tuple, exp.Interval, exp.Neg, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod),
    *(exp.DPipe, exp.BitwiseAnd, exp.BitwiseOr, exp.BitwiseXor, exp.BitwiseNot),
)
_ALLOWED = (
    *(exp.Column, exp.Identifier, exp.Dot, exp.Boolean, exp.Null, exp.Var, exp.Bracket, exp.Lambda, *_VALUES),
    *(exp.Connector, exp.Not, exp.Paren, exp.Predicate, exp.Escape, exp.PropertyEQ, exp.Func),
    *(exp.DataType, exp.DataTypeParam),
)
_STRING_TOKENS = (TokenType.STRING, TokenType.RAW_STRING)
_SPARK = Spark()


def parse(when: str, title: str) -> exp.Expr:
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
        place = error.errors[0].get("highlight") if isinstance(error, ParseError) else None
        seen = f", see {place!r}" if place else ""
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
                return f"{sql(node)} {why}"
        if isinstance(node, (exp.Any, exp.All)) and not isinstance(node.parent, (exp.Like, exp.ILike)):
            return f"{sql(node)} is only for LIKE; to look at other rows, compute a column in an earlier step"
        if not isinstance(node, _ALLOWED):
            return f"{sql(node)} is nothing that a rule may hold; use columns, values, operators and functions"
        timed = isinstance(node, exp.Cast) and node.to.is_type(*exp.DataType.TEMPORAL_TYPES)
        if timed and isinstance(node.this, STRINGS) and _UNSTEADY_LITERAL.match(node.this.name):
            return f"{sql(node)} {_UNSTEADY}"
    # Below AND, OR, NOT and parentheses stand conditions; no tag column is one by itself.
    for node in tree.walk(prune=lambda node: not isinstance(node, (exp.Connector, exp.Not, exp.Paren))):
        base = node.this if isinstance(node, exp.Bracket) else node
        if isinstance(node, _VALUES) or (isinstance(base, exp.Column) and root(base) in TAG_COLUMNS):
            return f"{sql(node)} is a value and no condition; compare it, as in scores['web'] >= 0.5"
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
            likely = near(name, _FUNCTIONS)
            otherwise = f"{likely} Otherwise compute" if likely else "compute"
            return f"{name + '()'!r} {why}; {otherwise} a column in an earlier step, and use that"
    return None


def root(column: exp.Column) -> str:
    """The column's own name, in lower case, without the fields that are read from it."""
    return column.parts[0].name.lower()


def near(name: str, known: Iterable[str]) -> str:
    """'did you mean ...?' with the closest of what is known, or nothing."""
    spelled = {candidate.lower(): candidate for candidate in known}
    matches = get_close_matches(name.lower(), spelled, n=3)
    return f"did you mean {' or '.join(repr(spelled[match]) for match in matches)}?" if matches else ""


def sql(node: exp.Expr) -> str:
    """A piece of a condition, short enough for a message."""
    return repr(node.sql(dialect=_SPARK)[:80])
