"""Numbers as people write them in English."""

from __future__ import annotations

from datetime import datetime


def number(amount: int) -> str:
    return f"{amount:,}"


def counted(amount: int, noun: str) -> str:
    """'1 document', '12,345 documents'."""
    return f"{amount:,} {noun}" if amount == 1 else f"{amount:,} {noun}s"


def share(part: float, whole: float = 1.0) -> str:
    """A percentage of two digits or so. It says 0% and 100% of nothing and of all alone."""
    if whole <= 0:
        return "–"
    percent = 100 * part / whole
    if 0 < percent < 0.05:
        return "<0.1%"
    if 99.95 <= percent < 100:
        return ">99.9%"
    digits = 1 if 0 < percent < 9.95 or 99 < percent < 100 else 0
    return f"{percent:.{digits}f}%"


def duration(seconds: float) -> str:
    """'0.4 s', '12 s', '3 min 20 s', '2 h 5 min'."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def rate(per_second: float) -> str:
    """A speed with three digits or more: '0.52', '8.4', '212', '12,345'."""
    digits = 0 if per_second >= 99.5 else 1 if per_second >= 9.95 else 2
    return f"{per_second:,.{digits}f}"


def moment(time: datetime) -> str:
    """'23 November 2026, 02:00 UTC'; without a time zone if it has none."""
    return f"{time.day} {time:%B %Y, %H:%M} {time.tzname() or ''}".rstrip()


def day(time: datetime) -> str:
    """'23 Nov'"""
    return f"{time.day} {time:%b}"


def several(names: list[str], most: int = 6) -> str:
    """'a, b and c'; those beyond `most` are counted."""
    shown = names if len(names) <= most else [*names[: most - 1], f"{len(names) - most + 1} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
