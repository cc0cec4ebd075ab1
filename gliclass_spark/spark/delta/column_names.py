"""Column names in expressions, and the names of helper columns."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

# No column of the documents may begin with it, so that a helper column never hides one of theirs.
HELPER_PREFIX = "__gliclass_"


def quoted(name: str) -> str:
    """Return the name in backquotes, for SQL and for expressions."""
    return f"`{name.replace('`', '``')}`"


def column(name: str, relation: str | None = None) -> Column:
    """Return the column of that name, whatever characters it has; of the aliased `relation`, if one is named."""
    return F.col(quoted(name) if relation is None else f"{relation}.{quoted(name)}")


def helper(name: str) -> str:
    """Return the name of a helper column."""
    return HELPER_PREFIX + name
