"""Errors of Spark, as errors that users can fix: what failed, its root cause, and the fix, on one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from py4j.protocol import Py4JError
from pyspark.errors import PySparkException

from gliclass_spark.errors import GliclassSparkError, JobError, TableError
from gliclass_spark.redaction import without_secrets

# Everything that a call of Spark raises: Spark's own errors, those of Java, and those of a lost connection to the JVM.
SPARK_ERRORS = (PySparkException, Py4JError, ConnectionRefusedError)

_NO_DRIVER = (
    "add its jar to Spark: spark.jars or spark.jars.packages in the file of --conf, see docs/deployment/storage.md"
)
_GRANT = "grant it to the user or role that runs Spark's jobs"
_DAMAGED = "it is damaged, cut short or of another format: replace it with a good copy"
# A right that is missing, as Unity Catalog, Hadoop's drivers and local disks report it: what for, and which right.
_MISSING_RIGHTS = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        r"User does not have (?P<right>[A-Z][A-Z ]+?) on (?P<object>\w+ [^\s.]\S*?)\.?(?:\s|$)",
        r"AccessControlException: (?P<operation>.*?)inode=\"?(?P<object>[^\":]+)",
        r"\b403 Forbidden\s+(?P<operation>[A-Z]+) (?P<object>https://[^\s?]+)",
        r"\b403, (?P<operation>[A-Z]+), (?P<object>https://[^\s?,]+)",
        r"AccessDeniedException: (?P<object>[^\s:]*:?/\S*?)(?:: (?P<operation>.*)|:?$)",
        r"FileNotFoundException: (?P<object>/.*?) \(Permission denied\)(?P<operation>\s+at \S+FileOutputStream\.)?",
        r"DELTA_CANNOT_CREATE_LOG_PATH\] (?P<operation>Cannot create) (?P<object>\S+)",
        r"(?P<operation>[Mm]kdirs) failed to create (?P<object>\S+)",
        r"(?:PERMISSION_DENIED|INSUFFICIENT_PERMISSIONS)\b[^\s:]*:?\s+(?:Insufficient privileges:\s+)?(?P<object>.+)$",
    )
)
_WRITES = re.compile(
    r"WRITE|^(?:PUT|POST|PATCH|DELETE)\b|[Pp]ut|[Dd]elete|Writing|[Mm]kdirs|[Uu]pload|[Cc]reat|OutputStream"
)
# Wrong inputs that Spark's messages name, and what to do about each. The first that matches counts.
_WRONG_INPUTS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern, re.MULTILINE), message)
    for pattern, message in (
        (r'No FileSystem for scheme "(?P<scheme>[^"]+)"', f"Spark has no driver for {{scheme}}://; {_NO_DRIVER}"),
        (
            r"Class (?P<name>org\.apache\.hadoop\.fs\.\S+) not found",
            f"Spark has no driver for this store ({{name}}); {_NO_DRIVER}",
        ),
        (
            r"UnknownHostException: (?P<host>[^\s:;]+)",
            "the host {host!r} is unknown; check the address in source.path and tables, and the network",
        ),
        (
            r"UNSUPPORTED_FILE_SYSTEM\].* reading file (?P<file>\S+)\. ",
            "{file} is on a file system that Spark can't list; copy the documents to a folder or an object store",
        ),
        (
            r"PARQUET_COLUMN_DATA_TYPE_MISMATCH\].* reading file (?P<file>\S+)\. .* column \[(?P<column>.+)\]\. "
            r"Expected Spark type (?P<expected>.+), actual Parquet type (?P<actual>\w+)",
            "column {column!r} is {actual} in {file}, and {expected} in other files; write them all with one type",
        ),
        (
            r"CSV header (?:does not|is not)[\s\S]*?CSV file: (?P<file>\S+)",
            "the header of {file} has other columns than the first file's; give all files the same, or read columns by "
            "their place with enforceSchema: true in source.options",
        ),
        (r"\[FAILED_READ_FILE\.\w+\].* reading file (?P<file>\S+)\. ", f"{{file}} can't be read; {_DAMAGED}"),
        (
            r"\[CATALOG_NOT_FOUND\] The catalog `?(?P<name>[^`\s]+)",
            "there is no catalog {name!r}; check the name, or set spark.sql.catalog.{name} in the file of --conf",
        ),
        (
            r"\[REQUIRES_SINGLE_PART_NAMESPACE\] .* identifier `?(?P<name>[^`.]+)",
            "there is no catalog {name!r}; check the name, or set spark.sql.catalog.{name} in the file of --conf",
        ),
        (r"\[USER_RAISED_EXCEPTION\] (?P<message>.*?)(?: SQLSTATE: \w+)?$", "{message}"),
    )
)
# Causes that are no fault of the file that was read.
_LOST_CONNECTION = re.compile(r"java\.net\.(?!UnknownHost)|[Tt]imed? ?[Oo]ut|SdkClientException|No space left")
# But for the one that shows that a file could not be written.
_STACK_FRAME = re.compile(r"\s+at (?!\S*java\.io\.FileOutputStream\.)|\s+\.\.\. \d+ more")
_JVM_ENDED = "Spark's Java process ended; it may have been killed for its memory, see spark.driver.memory"


@contextmanager
def reporting_spark_errors(title: str) -> Iterator[None]:
    """Raise Spark's errors of the block as one line: TableError for a wrong input, JobError for any other cause."""
    try:
        yield
    except SPARK_ERRORS as error:
        raise as_user_error(error, title) from error


def as_user_error(error: BaseException, title: str) -> GliclassSparkError:
    """Return an error of Spark as TableError if an input explains it, else as JobError with its root cause."""
    wrong_input = _wrong_input(_text(error))
    if wrong_input is not None:
        return TableError(f"{title}: {wrong_input}")
    return JobError(f"{title} failed: {root_cause(error)}; no table is left half-written: fix the cause, and run again")


def is_access_error(error: BaseException) -> bool:
    """Return whether the error is about a right that the user of Spark lacks."""
    return _missing_right(_text(error)) is not None


def missing_right(right: Literal["read", "write"], path: str) -> str:
    """Return that a right is missing, and what to do."""
    return f"the right to {right} {path} is missing; {_GRANT}"


def root_cause(error: BaseException) -> str:
    """Return the innermost cause that Spark's message names, on one line."""
    text = _text(error)
    python = re.findall(r"^.*Traceback \(most recent call last\):\n(?:[ \t].*\n|\n)*(\S.*)$", text, re.MULTILINE)
    causes = python or re.findall(r"^\s*Caused by: (.+)$", text, re.MULTILINE)
    lines = [line.strip() for line in text.splitlines() if line.strip()] or [type(error).__name__]
    if len(lines) > 1 and lines[0].startswith("An error occurred while calling"):
        lines = lines[1:]  # the first names the method, the next one the error
    cause = causes[-1] if causes else lines[0].removeprefix(": ")
    return without_secrets(re.sub(r"\.?\s+SQLSTATE: \w+.*$", "", cause.strip()))


def _wrong_input(text: str) -> str | None:
    """Return what is wrong with an input and how to fix it, if the error's text names one."""
    if (missing_right := _missing_right(text)) is not None:
        return missing_right
    if _LOST_CONNECTION.search(text):
        return None
    for pattern, message in _WRONG_INPUTS:
        match = pattern.search(text)
        if match:
            return message.format(**match.groupdict())
    return None


def _missing_right(text: str) -> str | None:
    """Return which right to what is missing, if the error's text says so."""
    for pattern in _MISSING_RIGHTS:
        match = pattern.search(text)
        if match:
            groups = match.groupdict()
            if "operation" not in groups:
                right = f"the right {groups['right']}" if "right" in groups else "a right"
                return f"{right} on {groups['object']} is missing; {_GRANT}"
            return missing_right("write" if _WRITES.search(groups["operation"] or "") else "read", groups["object"])
    return None


def _text(error: BaseException) -> str:
    """Return the error's message, without the frames of Java's stack traces."""
    if isinstance(error, ConnectionRefusedError):
        return _JVM_ENDED
    try:
        lines = str(error).splitlines()
    except SPARK_ERRORS:  # the message itself is fetched from the JVM
        return _JVM_ENDED
    return "\n".join(line for line in lines if not _STACK_FRAME.match(line))
