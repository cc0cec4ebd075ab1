"""The DAG that the file of a retraining becomes, and what decides about its tasks: the files that its steps leave."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from airflow.sdk import DAG, Asset
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from dag_files import HEAVY, ROOT, dag_bag, parsed
from deltalake import write_deltalake
from retraining_files import write_pipeline, write_retraining
from slack_api import slack

from gliclass_spark.airflow.checks import retraining_checks
from gliclass_spark.airflow.dags.retraining_dag import retrain_dag
from gliclass_spark.airflow.dags.retraining_files import read_retrainings
from gliclass_spark.airflow.operators.training_step import Promotion, TrainingStep
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.errors import ConfigError
from gliclass_spark.training.data.logged_decisions import read_decisions

ORDER = ["plan", "snapshot", "enough", "supervised", "ppo", "calibrate", "gate", "promote", "notify"]
RUN = "scheduled__2026-11-22T04:00:00+00:00"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_pipeline(tmp_path)
    return write_retraining(tmp_path)


@pytest.fixture
def work(file: Path) -> Path:
    """The folder of the run."""
    folder = RetrainConfig.from_yaml(file).run_folder(RUN)
    (folder / "snapshot").mkdir(parents=True)
    return folder


def dag_of(file: Path) -> DAG:
    return retrain_dag(file, RetrainConfig.from_yaml(file), ROOT / "jobs")


def scheduled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[set[str], dict[str, str]]:
    """The DAGs that Airflow finds, and its import errors, where all files stand in the folder."""
    (folder / "pipelines").mkdir(exist_ok=True)
    monkeypatch.setenv("GLICLASS_PIPELINES", str(folder / "pipelines"))
    monkeypatch.setenv("GLICLASS_RETRAIN", str(folder / "retrain"))
    bag = dag_bag()
    return set(bag.dags), bag.import_errors


def test_the_steps_of_a_retraining_follow_each_other_and_one_run_waits_for_another(file: Path) -> None:
    dag = dag_of(file)
    assert dag.dag_id == "mail.retrain"
    assert set(dag.task_ids) == set(ORDER)
    for one, next_ in itertools.pairwise(ORDER):
        assert dag.get_task(one).downstream_task_ids == {next_}
    assert (dag.schedule, dag.max_active_runs, dag.catchup) == ("0 4 * * 0", 1, False)


def test_only_what_trains_or_judges_takes_a_gpu(tmp_path: Path) -> None:
    write_pipeline(tmp_path)
    dag = dag_of(
        write_retraining(tmp_path, airflow={"processes": 4, "python": "/opt/train/bin/python", "pool": "a100"})
    )
    pools = {step: dag.get_task(step).pool for step in ORDER}
    assert {step for step, pool in pools.items() if pool == "a100"} == {"supervised", "ppo", "calibrate", "gate"}
    commands = {step: dag.get_task(step).command() for step in ORDER[3:8]}
    for step, command in commands.items():
        assert command[0] == "/opt/train/bin/python"
        assert command[-6:] == [
            str(ROOT / "jobs" / "retrain.py"),
            str(tmp_path / "retrain" / "mail.yaml"),
            *("--run-id", "{{ run_id }}", "--step", step),
        ]
    several = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4"]
    assert {step for step, command in commands.items() if command[1:6] == several} == {"supervised", "ppo"}


def test_feedback_may_start_it_and_a_promotion_may_start_others(tmp_path: Path) -> None:
    write_pipeline(tmp_path)
    dag = dag_of(write_retraining(tmp_path, airflow={"after": ["mail.feedback"]}))
    assert [each.name for each in dag.schedule] == ["mail.feedback"]
    feedback, model = dag.get_task("snapshot").inlets
    assert (feedback.name, feedback.uri) == ("mail.feedback", f"file://{tmp_path}/lake/feedback")
    assert (model.name, model.uri) == ("mail.model", "models:/mail@champion")
    assert [each.name for each in dag.get_task("promote").outlets] == ["mail.model.promoted"]


def test_a_dag_tells_its_own_rules(file: Path, tmp_path: Path) -> None:
    told = str(dag_of(file).doc_md)
    assert "Teaches **models:/mail@champion**" in told
    assert "| max_slowdown | 1.5 |" in told
    assert f"`{tmp_path / 'golden.jsonl'}`" in told


def test_parsing_loads_nothing_heavy(file: Path) -> None:
    found = parsed("retraining", GLICLASS_RETRAIN=str(file.parent))
    print(f"dags/retraining.py: {found['seconds']:.2f} s besides Airflow's own import")
    assert HEAVY & {name.split(".")[0] for name in found["modules"]} == set()
    assert "mail.retrain" in found["dags"]


WRONG = {
    "an unknown key": ({"glden": "x"}, "unknown key 'glden'"),
    "a model that no promotion reaches": ({"pipeline": "../embedded/mail.yaml"}, "which a promotion would not change"),
    "a pipeline that is not there": ({"pipeline": "../none.yaml"}, "none.yaml does not exist"),
    "a cron that does not parse": ({"airflow": {"cron": "61 2 * * *"}}, "airflow.cron: '61 2 * * *' is no cron"),
    "a conf that is not there": ({"airflow": {"spark_conf": "none.yaml"}}, "none.yaml"),
    "a pipeline that is retrained already": ({}, "Airflow retrains 'mail' by"),
}


@pytest.mark.parametrize(("parts", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_an_import_error_and_takes_no_other_dag_down(
    parts: dict[str, Any], message: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "embedded").mkdir()
    write_pipeline(tmp_path / "embedded", "embedded")
    wrong = write_retraining(tmp_path, "wrong", **parts)
    dags, errors = scheduled(tmp_path, monkeypatch)
    assert dags == {"mail.retrain"}
    assert set(errors) == {"refused.py"}
    assert message in errors["refused.py"]
    assert str(wrong) in errors["refused.py"] or "none.yaml" in message


def test_what_is_not_scheduled_is_no_dag_and_no_folder_is_needed(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand = write_retraining(tmp_path, "by_hand", airflow=None)
    monkeypatch.setenv("GLICLASS_RETRAIN", str(tmp_path / "retrain"))
    found = read_retrainings(tmp_path)
    assert (set(found.read), found.refused) == ({file}, [])
    assert by_hand.exists()
    monkeypatch.delenv("GLICLASS_RETRAIN")
    assert read_retrainings(tmp_path).read == {}
    monkeypatch.setenv("GLICLASS_RETRAIN", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"there is no folder .*none; set GLICLASS_RETRAIN"):
        read_retrainings(tmp_path)


def stand_in(file: Path, program: str, step: str = "gate") -> TrainingStep:
    """The task of a step that runs this program instead of the job."""
    task = dag_of(file).get_task(step)
    task.run_id, task.job = RUN, str(file.parent / "job.py")
    Path(task.job).write_text(program)
    return task


def test_a_step_is_done_when_it_has_left_its_file_whatever_its_exit_code(
    file: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    leaves = (
        f"import sys; print('step', *sys.argv[2:]); open({str(work / 'gate.json')!r}, 'w').write('{{}}'); sys.exit(3)"
    )
    stand_in(file, leaves).execute({})
    told = capsys.readouterr().out
    assert f"step --run-id {RUN} --step gate" in told
    assert "gate is done, but ended with the exit code 3" in told


def test_a_step_that_leaves_no_file_has_failed_and_says_its_last_line(file: Path, work: Path) -> None:
    with pytest.raises(AirflowException, match=r"gate left no gate\.json; it ended with the exit code 0: good night"):
        stand_in(file, "print('good morning'); print('good night')").execute({})
    wrong = "import sys; print('error: nothing to learn', file=sys.stderr); print('a child has failed'); sys.exit(2)"
    with pytest.raises(AirflowException, match="exit code 2: error: nothing to learn"):
        stand_in(file, wrong).execute({})


def running(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_nothing_of_a_step_that_is_killed_is_left_behind(file: Path, work: Path) -> None:
    pids = work / "pids"
    task = stand_in(
        file,
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
    while running(parent) or running(child):  # a signal takes its time; the test's time limit is the bound
        time.sleep(0.05)
    assert os.getpid() != parent


class Events(dict[Any, Any]):
    """Stands in for what Airflow gives a task to say that assets changed."""

    def __missing__(self, alias: Any) -> Any:
        self[alias] = added = Added()
        return added


class Added(list[tuple[str, dict[str, Any]]]):
    def add(self, asset: Asset, extra: dict[str, Any]) -> None:
        self.append((asset.name, extra))


@pytest.mark.parametrize(("promoted", "events"), [(True, [("mail.model", {"version": 7})]), (False, [])])
def test_the_asset_changes_only_with_a_promotion(promoted: bool, events: list[Any], file: Path, work: Path) -> None:
    (work / "gate.json").write_text(json.dumps({"promoted": promoted}))
    (work / "promote.json").write_text(json.dumps({"version": 7}))
    task, told = stand_in(file, "", "promote"), Events()
    assert isinstance(task, Promotion)
    task.execute({"outlet_events": told})
    assert list(itertools.chain(*told.values())) == events


def write_snapshot(folder: Path, rows: list[tuple[Any, ...]], label_set: Any) -> None:
    columns = ("doc_id", "text", "label", "target", "reward", "chosen", "propensity", "score", "held_out")
    types = dict(zip(columns, [*["string"] * 3, "int8", "float", "bool", *["double"] * 2, "bool"], strict=True))
    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in types.items()])
    table = pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows], schema)
    pq.write_table(table, folder / "snapshot" / "feedback.parquet")
    about = {"label_set": json.loads(label_set.canonical_json)}
    (folder / "snapshot" / "snapshot.json").write_text(json.dumps(about))


def test_too_few_decisions_skip_the_rest_and_are_counted_as_the_training_counts_them(
    file: Path, work: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        ("judged", "a", "spam", 1, None, None, None, None, False),
        ("rewarded", "b", "spam", None, -1.0, True, 0.5, 0.7, False),
        ("late click", "c", "spam", None, 1.0, None, None, None, False),
        ("held out", "d", "spam", 0, 1.0, False, 0.5, 0.2, True),
    ]
    label_set = Pipeline.from_yaml(file.parents[1] / "mail.yaml").label_set
    write_snapshot(work, rows, label_set)
    with caplog.at_level("INFO"):
        assert not retraining_checks.enough(str(file), RUN)
    assert "2 decisions that are known to be right or wrong about pipeline mail, 3 are needed: nothing" in caplog.text
    decisions = read_decisions(work / "snapshot")
    learned = decisions.where(~decisions.held_out)
    assert int((learned.judged | learned.rewarded).sum()) == 2
    write_snapshot(work, [*rows, ("more", "e", "lake", None, 0.0, False, 0.5, 0.1, False)], label_set)
    assert retraining_checks.enough(str(file), RUN)
    write_snapshot(work, rows[:0], label_set)
    assert not retraining_checks.enough(str(file), RUN)


def test_without_signals_nothing_is_submitted(file: Path, tmp_path: Path) -> None:
    assert not retraining_checks.plan(str(file))
    present = Pipeline.from_yaml(tmp_path / "mail.yaml").label_set.hash
    write_deltalake(str(tmp_path / "lake" / "feedback"), pa.table({"label_set_hash": [present, present, "0" * 64]}))
    assert not retraining_checks.plan(str(file))
    more = pa.table({"label_set_hash": [present]})
    write_deltalake(str(tmp_path / "lake" / "feedback"), more, mode="append")
    assert retraining_checks.plan(str(file))
    file.write_text("pipeline: none.yaml\n")
    with pytest.raises(AirflowFailException, match=r"none.yaml does not exist"):
        retraining_checks.plan(str(file))


def test_what_the_last_retraining_had_already_starts_no_other(
    file: Path, work: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    label_set = Pipeline.from_yaml(tmp_path / "mail.yaml").label_set
    feedback = str(tmp_path / "lake" / "feedback")
    write_deltalake(feedback, pa.table({"label_set_hash": [label_set.hash] * 3}))
    about = {"label_set": json.loads(label_set.canonical_json), "counts": {"signals": 3}}
    (work / "snapshot" / "snapshot.json").write_text(json.dumps(about))
    assert retraining_checks.plan(str(file)), "it has not come to its end"
    (work / "promote.json").write_text(json.dumps({"version": 7}))
    with caplog.at_level("INFO"):
        assert not retraining_checks.plan(str(file))
    assert "0 of the 3 signals came in since the last retraining, 1 are needed (min_new_signals)" in caplog.text
    write_deltalake(feedback, pa.table({"label_set_hash": [label_set.hash]}), mode="append")
    assert retraining_checks.plan(str(file))
    write_retraining(tmp_path, min_new_signals=2)
    assert not retraining_checks.plan(str(file))
    about["label_set"]["name"] = "another"
    (work / "snapshot" / "snapshot.json").write_text(json.dumps(about))
    assert retraining_checks.plan(str(file)), "it was about other labels"


FINDINGS = [
    {"rule": "min_f1_gain", "passed": True, "said": "macro-F1 on golden: 0.800 -> 0.810"},
    {"rule": "max_slowdown", "passed": False, "said": "takes 2.00 times the champion's time, at most 1.50"},
]


@pytest.mark.parametrize(
    ("promoted", "became"),
    [(True, "is the champion"), (False, "is refused, and stays the challenger")],
)
def test_promotion_and_refusal_are_both_told_with_what_was_not_met_first(
    promoted: bool, became: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_pipeline(tmp_path)
    file = write_retraining(tmp_path, airflow={"alerts": {"slack": "#mail"}})
    work = RetrainConfig.from_yaml(file).run_folder(RUN)
    work.mkdir(parents=True)
    (work / "gate.json").write_text(json.dumps({"promoted": promoted, "findings": FINDINGS}))
    (work / "promote.json").write_text(json.dumps({"version": 7}))
    with slack({"ok": True}) as (address, asked), caplog.at_level("INFO"):
        connection = {"conn_type": "slack", "password": "xoxb-token", "extra": {"base_url": address}}
        monkeypatch.setenv("AIRFLOW_CONN_SLACK_API_DEFAULT", json.dumps(connection))
        retraining_checks.notify(str(file), RUN)
    [(_, _, message)] = asked
    assert message["text"].splitlines() == [
        f"mail: version 7 of the model mail {became}",
        f"retraining {RUN}",
        "NOT MET: max_slowdown: takes 2.00 times the champion's time, at most 1.50",
        "met: min_f1_gain: macro-F1 on golden: 0.800 -&gt; 0.810",
        f"more: {work / 'gate.html'}",
    ]
    assert f"version 7 of the model mail {became}" in caplog.text


def test_the_files_of_the_manual_become_a_dag(tmp_path: Path) -> None:
    manual = (ROOT / "docs" / "retraining.md").read_text(encoding="utf-8")
    for name, document in re.findall(r"`(conf/[\w./]+\.yaml)`:\n\n```yaml\n(.*?)```", manual, re.DOTALL):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document)
    shutil.copytree(ROOT / "conf" / "spark", tmp_path / "conf" / "spark")
    found = read_retrainings(tmp_path)
    assert found.refused == []
    [config] = found.read.values()
    assert config.pipeline.name == "support_mail"
