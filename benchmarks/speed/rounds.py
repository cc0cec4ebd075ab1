"""Interleaved timing: every call once per round, so that other load on the machine affects all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from rich.progress import track

Key = TypeVar("Key")


def seconds(calls: Mapping[Key, Callable[[], object]], rounds: int) -> dict[Key, list[float]]:
    """Return the seconds of each call in each round, after one round to warm up."""
    taken: dict[Key, list[float]] = {key: [] for key in calls}
    for number in track(range(-1, rounds), description="rounds", transient=True):
        for key, call in calls.items():
            started = time.perf_counter()
            call()
            if number >= 0:
                taken[key].append(time.perf_counter() - started)
    return taken


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the minimum, median and maximum."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def ratio(slow: Sequence[float], fast: Sequence[float]) -> dict[str, float]:
    """Return the spread of slow over fast, within each round."""
    return spread([numerator / denominator for numerator, denominator in zip(slow, fast, strict=True)])


def shown(values: Mapping[str, float], form: str) -> str:
    """Return a spread as text: median (min-max)."""
    return f"{values['median']:{form}} ({values['min']:{form}}-{values['max']:{form}})"
