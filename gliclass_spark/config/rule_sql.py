"""SQL conditions of rules: parsed, and checked to be safe and deterministic, without a Spark session."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from sqlglot import TokenType, exp
from sqlglot.dialects.spark import Spark
from sqlglot.errors import ParseError, TokenError
from sqlglot.tokenizer_core import Token

from gliclass_spark.errors import RulesError

# Columns that tagging adds to a document. A rule may use these and the document's own columns.
TAG_COLUMNS: tuple[str, ...] = (
    *("content_hash", "label_set", "label_set_hash", "scores", "labels", "token_count", "chunk_count"),
    *("error", "model", "model_digest", "explored", "run_id", "tagged_at"),
)
# The date of the run, which a rule may use beside them. A document's own column of that name takes its place.
RUN_DATE = "run_date"


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Functions that a rule may call, by Spark's names. Not sqlglot's classes, because sqlglot also parses the functions of
# other systems, and under such a name Spark would call a user-defined function. Left out on purpose: functions that
# read more than the row, raise errors, run code, or read the session.
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
# Keywords that can precede a parenthesis without being a call.
_KEYWORDS = _words("all and any both case div else for from leading or some then trailing")
# Nondeterministic functions, listed only for a better message.
_NONDETERMINISTIC_CALLS = _words("""
    curdate input_file_block_length input_file_block_start input_file_name monotonically_increasing_id now rand
    randn random randstr shuffle spark_partition_id uniform unix_timestamp uuid
    """)
# Refused also without parentheses: Spark calls most of them where no column has the name.
_NONDETERMINISTIC_WORDS = _words("current_date current_time current_timestamp current_user localtimestamp session_user")
_TIME_BY_NAME = re.compile(r"\s*(now|today|tomorrow|yesterday)(\s+\S+)?\s*", re.IGNORECASE)  # and a zone
_NONDETERMINISTIC = "gives another value in each run; compute a column in an earlier step, and use that"
# Spark takes these names for a date or time wherever it needs one, and reads the clock when the job runs.
CLOCK = (
    "depends on when it is evaluated: another attempt of a run would decide differently; compare with run_date, the "
    "date of the run, or with a column of the documents"
)
# Functions whose text arguments are dates or times.
_TIME_FUNCTIONS = _words("""
    add_months date date_add date_diff date_format date_part date_sub date_trunc dateadd datediff datepart day dayname
    dayofmonth dayofweek dayofyear extract hour last_day minute month monthname months_between next_day quarter second
    timestamp to_date to_timestamp trunc try_to_date try_to_timestamp unix_date unix_micros unix_millis unix_seconds
    weekday weekofyear year
    """)
_ORDER_TOKENS = (TokenType.LT, TokenType.LTE, TokenType.GT, TokenType.GTE, TokenType.BETWEEN)

_FORBIDDEN: tuple[tuple[tuple[type[exp.Expr], ...], str], ...] = (
    ((exp.Query,), "is a query, and a rule sees one row; join in an earlier step, and use the column"),
    ((exp.Window, exp.Filter), "reads other rows, and a rule sees one; compute a column in an earlier step"),
    ((exp.AggFunc,), "is an aggregate, and a rule sees one row; compute a column in an earlier step"),
    ((exp.Star,), "selects every column; name the ones that you need"),
    ((exp.Placeholder, exp.Parameter), "is a parameter, which rules don't have; write the value itself"),
)
STRINGS = (exp.Literal, exp.RawString)
_VALUES = (
    *(*STRINGS, exp.Tuple, exp.Interval, exp.Neg, exp.Add, exp.Sub, exp.Mul, exp.Div, exp.IntDiv, exp.Mod),
    *(exp.DPipe, exp.BitwiseAnd, exp.BitwiseOr, exp.BitwiseXor, exp.BitwiseNot),
)
_ALLOWED = (
    *(exp.Column, exp.Identifier, exp.Dot, exp.Boolean, exp.Null, exp.Var, exp.Bracket, exp.Lambda, *_VALUES),
    *(exp.Connector, exp.Not, exp.Paren, exp.Predicate, exp.Escape, exp.PropertyEQ, exp.Func),
    *(exp.DataType, exp.DataTypeParam, exp.JSONPath, exp.JSONPathPart),
)
_STRING_TOKENS = (TokenType.STRING, TokenType.RAW_STRING)
_SPARK = Spark()


def parse(when: str, title: str) -> exp.Expr:
    """Return the condition's syntax tree. Raises RulesError, with the rule's title, unless it is a safe condition."""
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
    except Exception as error:  # sqlglot raises anything for a call with too few arguments
        token = error.errors[0].get("highlight") if isinstance(error, ParseError) else None
        position = f", see {token!r}" if token else ""
        problem = f"{when!r} is not one SQL expression{position}; write one such as scores['web'] >= 0.5"
    if tree is None:
        message = problem or "the condition is empty; write one such as scores['web'] >= 0.5"
        raise RulesError(f"{title}: {message}")
    problem = _tree_problem(tree) or _call_problem(tokens, tree)
    if problem:
        raise RulesError(f"{title}: {problem}")
    return tree


def _text_problem(when: str, tokens: Sequence[Token]) -> str | None:
    """Return the problem of a condition that shows in its text alone, as comments and semicolons."""
    if any(token.comments for token in tokens):
        return "the condition holds a comment; write it after a # in the YAML file instead"
    if "${" in when:
        return "'${' would be substituted by Spark after this check; write the value itself"
    for token in tokens:
        if token.token_type is TokenType.SEMICOLON:
            return "';' ends a statement, and a rule is one expression; remove it"
        if token.token_type not in _STRING_TOKENS and token.text.lower() in _NONDETERMINISTIC_WORDS:
            return f"{token.text!r} {_NONDETERMINISTIC}"
    return _clock_problem(tokens)


def _clock_problem(tokens: Sequence[Token]) -> str | None:
    """Return the problem of a text such as 'today' that is compared by order, or is an argument that is a time.

    What only the types of columns and constant expressions show is left to Spark, see `check_analysis`.
    """
    calls: list[str] = []
    for before, token, after in zip([None, *tokens], tokens, [*tokens[1:], None], strict=False):
        if token.token_type is TokenType.L_PAREN:
            calls.append(before.text.lower() if before is not None else "")
        elif token.token_type is TokenType.R_PAREN and calls:
            calls.pop()
        elif token.token_type in _STRING_TOKENS and _TIME_BY_NAME.fullmatch(token.text):
            is_ordered = any(near is not None and near.token_type in _ORDER_TOKENS for near in (before, after))
            if is_ordered or (calls and calls[-1] in _TIME_FUNCTIONS):
                return f"{token.text!r} {CLOCK}"
    return None


def _tree_problem(tree: exp.Expr) -> str | None:
    """Return the problem of the first node that is not allowed in a rule."""
    for node in tree.walk():
        for types, why in _FORBIDDEN:
            if isinstance(node, types):
                return f"{excerpt(node)} {why}"
        if isinstance(node, (exp.Any, exp.All)) and not isinstance(node.parent, (exp.Like, exp.ILike)):
            return f"{excerpt(node)} is only for LIKE; to read other rows, compute a column in an earlier step"
        if not isinstance(node, _ALLOWED):
            return f"{excerpt(node)} is not allowed in a rule; use columns, values, operators and functions"
        is_time = isinstance(node, exp.Cast) and node.to.is_type(*exp.DataType.TEMPORAL_TYPES)
        if is_time and any(_TIME_BY_NAME.fullmatch(text.name) for text in node.find_all(*STRINGS)):
            return f"{excerpt(node)} {CLOCK}"
    # The operands of AND, OR, NOT and parentheses must be conditions, which no tag column is by itself.
    for node in tree.walk(prune=lambda node: not isinstance(node, (exp.Connector, exp.Not, exp.Paren))):
        base = node.this if isinstance(node, exp.Bracket) else node
        if isinstance(node, _VALUES) or (isinstance(base, exp.Column) and root(base) in (*TAG_COLUMNS, RUN_DATE)):
            return f"{excerpt(node)} is a value, not a condition; compare it, as in scores['web'] >= 0.5"
    return None


def _call_problem(tokens: Sequence[Token], tree: exp.Expr) -> str | None:
    """Return the problem of the first call of a function that is not allowed.

    Names are taken from the tokens, as Spark will see them: sqlglot's tree has sqlglot's own names, and `Anonymous`
    for functions that it does not know.
    """
    names = [node.name for node in tree.find_all(exp.Anonymous)]
    for before, token, after in zip([None, *tokens], tokens, tokens[1:], strict=False):
        is_name = token.token_type is TokenType.IDENTIFIER or token.text[:1].isidentifier()
        if after.token_type is TokenType.L_PAREN and is_name and token.text.lower() not in _KEYWORDS:
            qualified = before is not None and before.token_type is TokenType.DOT
            names.append(f".{token.text}" if qualified else token.text)
    for name in names:
        if name.lower() in _NONDETERMINISTIC_CALLS:
            return f"{name + '()'!r} {_NONDETERMINISTIC}"
        if name.lower() not in _FUNCTIONS:
            problem = "is none of Spark's built-in functions of one row that a rule may call"
            suggestion = did_you_mean(name, _FUNCTIONS)
            fix = f"{suggestion} Otherwise compute" if suggestion else "compute"
            return f"{name + '()'!r} {problem}; {fix} a column in an earlier step, and use that"
    extracts = list(tree.find_all(exp.JSONExtract, exp.JSONExtractScalar))
    if len(extracts) > [name.lower() for name in names].count("get_json_object"):  # other systems' -> and ->>
        return f"{excerpt(extracts[0])} is not allowed in a rule; write get_json_object(column, '$.key')"
    return None


def root(column: exp.Column) -> str:
    """Return the column's name, in lower case, without the struct fields after it."""
    return column.parts[0].name.lower()


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return 'did you mean ...?' with the closest candidates; "" if none is close."""
    by_lower_case = {candidate.lower(): candidate for candidate in candidates}
    matches = get_close_matches(name.lower(), by_lower_case, n=3)
    return f"did you mean {' or '.join(repr(by_lower_case[match]) for match in matches)}?" if matches else ""


def excerpt(node: exp.Expr) -> str:
    """Return the node as quoted SQL, cut to a length for messages."""
    return repr(node.sql(dialect=_SPARK)[:80])
