"""Number formats of the reports: counts, shares, durations, rates and times in English."""

from __future__ import annotations

from datetime import datetime


def number(count: int) -> str:
    """Return '12,345'."""
    return f"{count:,}"


def counted(count: int, noun: str) -> str:
    """Return '1 document', '12,345 documents'."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def share(part: float, total: float = 1.0) -> str:
    """Return a percentage of about two digits; '0%' and '100%' only for none and all, a dash for a total of 0."""
    if total <= 0:
        return "–"
    percent = 100 * part / total
    if 0 < percent < 0.05:
        return "<0.1%"
    if 99.95 <= percent < 100:
        return ">99.9%"
    digits = 1 if 0 < percent < 9.95 or 99 < percent < 100 else 0
    return f"{percent:.{digits}f}%"


def duration(seconds: float) -> str:
    """Return '0.4 s', '12 s', '3 min 20 s', '2 h 5 min'."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60} s"
    return f"{rounded // 3600:,} h {rounded % 3600 // 60} min"


def rate(per_second: float) -> str:
    """Return a speed with three digits or more: '0.52', '8.4', '212', '12,345'."""
    digits = 0 if per_second >= 99.5 else 1 if per_second >= 9.95 else 2
    return f"{per_second:,.{digits}f}"


def timestamp(time: datetime) -> str:
    """Return '23 November 2026, 02:00 UTC', without a time zone if the time has none."""
    return f"{time.day} {time:%B %Y, %H:%M} {time.tzname() or ''}".rstrip()


def day(time: datetime) -> str:
    """Return '23 Nov'."""
    return f"{time.day} {time:%b}"


def enumeration(names: list[str], max_names: int = 6) -> str:
    """Return 'a, b and c'; names beyond `max_names` are counted: 'a, b and 3 more'."""
    shown = names if len(names) <= max_names else [*names[: max_names - 1], f"{len(names) - max_names + 1} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
