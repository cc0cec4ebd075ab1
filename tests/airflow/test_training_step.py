"""Tasks of a retraining's steps: the outcome file of a step decides whether its task has succeeded."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from airflow.sdk.exceptions import AirflowException
from retraining_files import RUN
from retraining_tasks import Events, dag_of, stand_in

from gliclass_spark.airflow.operators.training_step import Promotion


def test_a_step_with_its_outcome_file_succeeds_with_any_exit_code(
    retraining_file: Path, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = str(run_folder / "gate.json")
    writes_outcome = f"import sys; print('step', *sys.argv[3:]); open({outcome!r}, 'w').write('{{}}'); sys.exit(3)"
    stand_in(retraining_file, writes_outcome).execute({})
    log = capsys.readouterr().out
    assert f"step --run-id {RUN} --step gate" in log
    assert "gate has finished, but ended with the exit code 3" in log


def test_a_step_without_an_outcome_file_fails_with_its_last_line_of_output(
    retraining_file: Path, run_folder: Path
) -> None:
    with pytest.raises(AirflowException, match=r"gate wrote no gate\.json; it ended with the exit code 0: last"):
        stand_in(retraining_file, "print('first'); print('last')").execute({})
    fails = "import sys; print('error: nothing to learn', file=sys.stderr); print('a child has failed'); sys.exit(2)"
    with pytest.raises(AirflowException, match="exit code 2: error: nothing to learn"):
        stand_in(retraining_file, fails).execute({})


def test_an_outcome_of_an_earlier_attempt_counts_only_if_the_step_succeeds(
    retraining_file: Path, run_folder: Path
) -> None:
    (run_folder / "gate.json").write_text("{}")
    stand_in(retraining_file, "").execute({})  # the step itself saw that its work was done
    fails = "import sys; print('error: the GPU is lost'); sys.exit(2)"
    with pytest.raises(
        AirflowException, match=r"gate wrote no gate\.json in this attempt, only in an earlier one.* 2: error: the GPU"
    ):
        stand_in(retraining_file, fails).execute({})


def test_a_snapshot_of_an_earlier_attempt_counts_only_if_spark_submit_succeeds(
    retraining_file: Path, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (run_folder / "snapshot" / "snapshot.json").write_text("{}")
    task = dag_of(retraining_file).get_task("snapshot")
    task.run_id = RUN
    program = tmp_path / "spark-submit"
    program.write_text("#!/bin/sh\nexit 0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    task.execute({})  # the job itself saw that its work was done
    program.write_text("#!/bin/sh\nexit 2\n")
    with pytest.raises(AirflowException, match="snapshot is complete, but it is that of an earlier attempt; spark-sub"):
        task.execute({})


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_killed_step_leaves_no_process_behind(retraining_file: Path, run_folder: Path) -> None:
    pids = run_folder / "pids"
    task = stand_in(
        retraining_file,
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(pids)!r} + '.new', 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        f"os.rename({str(pids)!r} + '.new', {str(pids)!r})\n"
        "time.sleep(600)\n",
    )

    def kill() -> None:
        while not pids.exists():
            time.sleep(0.05)
        task.on_kill()

    killing = threading.Thread(target=kill)
    killing.start()
    with pytest.raises(AirflowException, match=rf"exit code -{signal.SIGTERM.value}"):
        task.execute({})
    killing.join()
    parent, child = (int(pid) for pid in pids.read_text().split())
    while running(parent) or running(child):  # bounded by the test's time limit
        time.sleep(0.05)
    assert os.getpid() != parent


@pytest.mark.parametrize(("promoted", "events"), [(True, [("mail.model", {"version": 7})]), (False, [])])
def test_only_a_promotion_updates_the_asset(
    promoted: bool, events: list[Any], retraining_file: Path, run_folder: Path
) -> None:
    (run_folder / "gate.json").write_text(json.dumps({"promoted": promoted}))
    (run_folder / "promote.json").write_text(json.dumps({"version": 7}))
    task, outlet_events = stand_in(retraining_file, "", "promote"), Events()
    assert isinstance(task, Promotion)
    task.execute({"outlet_events": outlet_events})
    assert list(itertools.chain(*outlet_events.values())) == events
