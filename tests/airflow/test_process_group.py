"""Process groups: readiness, errors, and no process left behind."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import psutil
import pytest

from gliclass_spark.airflow.operators.process_group import ProcessGroup
from gliclass_spark.errors import StackError

# Starts a child in a session of its own, as torchrun does, then creates the file argv[1].
START_CHILD = (
    "import subprocess, sys, time; subprocess.Popen(['sleep', '600'], start_new_session=True); open(sys.argv[1], 'w'); "
    "time.sleep(600)"
)


def test_a_command_that_ends_before_it_is_ready_is_an_error_with_its_last_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('the port is taken')"]
    with (
        pytest.raises(StackError, match=r"^the store ended with 1: the port is taken; see .*/log$"),
        ProcessGroup("the store", command, log=tmp_path / "log") as group,
    ):
        group.wait_until_ready(lambda: "no answer", timeout_s=60)


def test_a_command_that_is_not_ready_in_time_is_an_error_with_the_reason(tmp_path: Path) -> None:
    with (
        pytest.raises(StackError, match=r"^late is not ready after 0.1 s: no answer; see .*/log$"),
        ProcessGroup("late", ["sleep", "600"], log=tmp_path / "log") as group,
    ):
        group.wait_until_ready(lambda: "no answer", timeout_s=0.1)


def test_leaving_the_block_ends_the_command_and_its_descendants(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    with ProcessGroup("server", [sys.executable, "-c", START_CHILD, str(ready)], log=tmp_path / "log") as group:
        group.wait_until_ready(lambda: None if ready.exists() else "not yet", timeout_s=60)
        processes = [psutil.Process(pid) for pid in group.pids()]
        assert len(processes) == 2
    assert group.poll() is not None
    assert psutil.wait_procs(processes, timeout=30)[1] == []


def test_a_command_that_ignores_the_stop_signal_is_killed(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    program = "import signal, sys, time; signal.signal(15, signal.SIG_IGN); open(sys.argv[1], 'w'); time.sleep(600)"
    group = ProcessGroup("stubborn", [sys.executable, "-c", program, str(ready)], log=tmp_path / "log", grace_s=0.2)
    group.wait_until_ready(lambda: None if ready.exists() else "not yet", timeout_s=60)
    group.end()
    assert group.poll() == -9


def test_output_is_streamed_line_by_line_with_the_exit_code() -> None:
    lines: list[str] = []
    with ProcessGroup("printer", [sys.executable, "-c", "print('one\\n\\ntwo'); exit(3)"]) as group:
        assert group.stream(lines.append) == 3
    assert lines == ["one", "two"]


def test_ending_twice_is_ending_once(tmp_path: Path) -> None:
    group = ProcessGroup("server", ["sleep", "600"], log=tmp_path / "log")
    group.end()
    started = time.monotonic()
    group.end()
    group.kill()
    assert time.monotonic() - started < 1
    assert group.pids() == []
