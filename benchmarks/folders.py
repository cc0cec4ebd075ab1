"""Folders of the repository that benchmarks read and write."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "benchmarks" / "results"
