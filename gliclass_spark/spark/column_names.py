"""Column names in Spark SQL: quoted, so that any character may be in one."""

from __future__ import annotations


def quoted(name: str) -> str:
    """Return the name in backquotes, which Spark SQL and `F.col` read as one name, dots and all."""
    return f"`{name.replace('`', '``')}`"
