"""A checkpoint with tied weights."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from reference_models import Reference


@pytest.fixture
def tied(reference: Callable[..., Reference], tmp_path: Path) -> Path:
    """A T5 checkpoint to damage: its word embeddings have two names in the model, and one in the file."""
    return Path(shutil.copytree(reference("t5").folder, tmp_path / "tied"))
