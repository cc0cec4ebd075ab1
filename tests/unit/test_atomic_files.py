"""Atomic file writes: whatever interrupts one, the file holds the old content or the new."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from gliclass_spark import atomic_files

# Kills the process where `os.fsync` is called: the content is half-way to its file.
KILLED_WRITE = f"""
import os, sys
from pathlib import Path
from gliclass_spark import atomic_files

os.fsync = lambda descriptor: os.kill(os.getpid(), {int(signal.SIGKILL)})
atomic_files.write_text(Path(sys.argv[1]), "new")
"""


def test_a_file_is_created_with_its_content(tmp_path: Path) -> None:
    atomic_files.write_text(tmp_path / "new.json", "café\n")
    assert (tmp_path / "new.json").read_bytes() == "café\n".encode()


def test_a_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"a longer old content")
    atomic_files.write_bytes(path, b"new")
    assert path.read_bytes() == b"new"
    assert [child.name for child in tmp_path.iterdir()] == ["file"], "no temporary file stays"


def test_others_may_read_the_file_as_any_other_new_file(tmp_path: Path) -> None:
    atomic_files.write_text(tmp_path / "atomic", "")
    (tmp_path / "plain").touch()
    assert (tmp_path / "atomic").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_write_killed_half_way_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    killed = subprocess.run([sys.executable, "-c", KILLED_WRITE, str(path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    atomic_files.write_text(path, "new")
    assert path.read_text() == "new"


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def disk_full(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="no space left"):
        atomic_files.write_text(path, "new")
    assert path.read_text() == "old"
    assert [child.name for child in tmp_path.iterdir()] == ["file"]
