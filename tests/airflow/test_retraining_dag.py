"""DAGs of retraining files; the outcome files of the steps decide about the tasks."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from airflow.sdk import DAG, Asset
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException
from dag_files import HEAVY, ROOT, dag_bag, parse
from deltalake import write_deltalake
from retraining_files import write_pipeline, write_retraining
from slack_api import slack
from written_runs import manifest, write_runs

from gliclass_spark.airflow.checks import retraining_checks
from gliclass_spark.airflow.dags.retraining_dag import retrain_dag
from gliclass_spark.airflow.dags.retraining_files import read_retrainings
from gliclass_spark.airflow.operators import RetrainOperator
from gliclass_spark.airflow.operators.spark_step import APPLICATION
from gliclass_spark.airflow.operators.training_step import Promotion, TrainingStep
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.errors import ConfigError
from gliclass_spark.training.data.logged_decisions import read_decisions

ORDER = [
    *("plan", "snapshot", "champion_check", "check_feedback", "supervised"),
    *("ppo", "calibrate", "gate", "promote", "notify"),
]
RUN = "scheduled__2026-11-22T04:00:00+00:00"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_pipeline(tmp_path)
    return write_retraining(tmp_path)


@pytest.fixture
def work(file: Path) -> Path:
    """Create and return the run's folder."""
    folder = RetrainConfig.from_yaml(file).run_folder(RUN)
    (folder / "snapshot").mkdir(parents=True)
    return folder


def dag_of(file: Path) -> DAG:
    return retrain_dag(file, RetrainConfig.from_yaml(file))


def scheduled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[set[str], dict[str, str]]:
    """Return the DAG ids and import errors of the files in the folder."""
    (folder / "pipelines").mkdir(exist_ok=True)
    monkeypatch.setenv("GLICLASS_PIPELINES", str(folder / "pipelines"))
    monkeypatch.setenv("GLICLASS_RETRAIN", str(folder / "retrain"))
    bag = dag_bag()
    return set(bag.dags), bag.import_errors


def test_the_steps_of_a_retraining_follow_each_other_one_run_at_a_time(file: Path) -> None:
    dag = dag_of(file)
    assert dag.dag_id == "mail.retrain"
    assert set(dag.task_ids) == set(ORDER)
    for task, next_task in itertools.pairwise(ORDER):
        assert dag.get_task(task).downstream_task_ids == {next_task}
    assert (dag.schedule, dag.max_active_runs, dag.catchup) == ("0 4 * * 0", 1, False)


def test_only_training_and_evaluation_steps_take_a_gpu_slot(tmp_path: Path) -> None:
    write_pipeline(tmp_path)
    dag = dag_of(
        write_retraining(tmp_path, airflow={"processes": 4, "python": "/opt/train/bin/python", "pool": "a100"})
    )
    pools = {step: dag.get_task(step).pool for step in ORDER}
    assert {step for step, pool in pools.items() if pool == "a100"} == {"champion_check", *ORDER[4:8]}
    commands = {step: dag.get_task(step).command() for step in ("champion_check", *ORDER[4:9])}
    for step, command in commands.items():
        assert command[0] == "/opt/train/bin/python"
        assert command[-7:] == [
            *(APPLICATION, "retrain"),
            str(tmp_path / "retrain" / "mail.yaml"),
            *("--run-id", "{{ run_id }}", "--step", step),
        ]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "4"]
    assert {step for step, command in commands.items() if command[1:6] == torchrun} == {"supervised", "ppo"}


def test_feedback_can_trigger_a_retraining_and_a_promotion_can_trigger_others(tmp_path: Path) -> None:
    write_pipeline(tmp_path)
    dag = dag_of(write_retraining(tmp_path, airflow={"after": ["mail.feedback"]}))
    assert [entry.name for entry in dag.schedule] == ["mail.feedback"]
    feedback, model = dag.get_task("snapshot").inlets
    assert (feedback.name, feedback.uri) == ("mail.feedback", f"file://{tmp_path}/lake/feedback")
    assert (model.name, model.uri) == ("mail.model", "models:/mail@champion")
    assert [entry.name for entry in dag.get_task("promote").outlets] == ["mail.model.promoted"]


def test_a_dag_documents_its_rules(file: Path, tmp_path: Path) -> None:
    documentation = str(dag_of(file).doc_md)
    assert "Trains **models:/mail@champion**" in documentation
    assert "| max_slowdown | 1.5 |" in documentation
    assert f"`{tmp_path / 'golden.jsonl'}`" in documentation


def test_parsing_loads_nothing_heavy(file: Path) -> None:
    result = parse("retraining", GLICLASS_RETRAIN=str(file.parent))
    print(f"dags/retraining.py: {result['seconds']:.2f} s besides Airflow's own import")
    assert HEAVY & {name.split(".")[0] for name in result["modules"]} == set()
    assert "mail.retrain" in result["dags"]


INVALID = {
    "an unknown key": ({"glden": "x"}, "unknown key 'glden'"),
    "a model that is not registered": ({"pipeline": "../embedded/mail.yaml"}, "which a promotion would not change"),
    "a missing pipeline file": ({"pipeline": "../none.yaml"}, "none.yaml does not exist"),
    "an invalid cron expression": ({"airflow": {"cron": "61 2 * * *"}}, "airflow.cron: '61 2 * * *' is no cron"),
    "a missing conf file": ({"airflow": {"spark_conf": "none.yaml"}}, "none.yaml"),
    "a second retraining of a pipeline": ({}, "Airflow retrains 'mail' by"),
}


@pytest.mark.parametrize(("parts", "message"), INVALID.values(), ids=INVALID)
def test_an_invalid_file_is_an_import_error_and_leaves_other_dags_alone(
    parts: dict[str, Any], message: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "embedded").mkdir()
    write_pipeline(tmp_path / "embedded", "embedded")
    invalid = write_retraining(tmp_path, "invalid", **parts)
    dags, errors = scheduled(tmp_path, monkeypatch)
    assert dags == {"mail.retrain"}
    assert set(errors) == {"import_errors.py"}
    assert message in errors["import_errors.py"]
    assert str(invalid) in errors["import_errors.py"] or "none.yaml" in message


def test_a_retraining_without_an_airflow_part_has_no_dag_and_the_folder_is_optional(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand = write_retraining(tmp_path, "by_hand", airflow=None)
    monkeypatch.setenv("GLICLASS_RETRAIN", str(tmp_path / "retrain"))
    files = read_retrainings(tmp_path)
    assert (set(files.configs), files.errors) == ({file}, [])
    assert by_hand.exists()
    monkeypatch.delenv("GLICLASS_RETRAIN")
    assert read_retrainings(tmp_path).configs == {}
    monkeypatch.setenv("GLICLASS_RETRAIN", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"there is no folder .*none; set GLICLASS_RETRAIN"):
        read_retrainings(tmp_path)


def stand_in(file: Path, program: str, step: str = "gate") -> TrainingStep:
    """Return a step's task that runs this program instead of the job."""
    task = dag_of(file).get_task(step)
    task.run_id, task.application = RUN, str(file.parent / "application.py")
    Path(task.application).write_text(program)
    return task


def test_a_step_with_its_outcome_file_succeeds_with_any_exit_code(
    file: Path, work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    writes_outcome = (
        f"import sys; print('step', *sys.argv[3:]); open({str(work / 'gate.json')!r}, 'w').write('{{}}'); sys.exit(3)"
    )
    stand_in(file, writes_outcome).execute({})
    log = capsys.readouterr().out
    assert f"step --run-id {RUN} --step gate" in log
    assert "gate has finished, but ended with the exit code 3" in log


def test_a_step_without_an_outcome_file_fails_with_its_last_line_of_output(file: Path, work: Path) -> None:
    with pytest.raises(AirflowException, match=r"gate wrote no gate\.json; it ended with the exit code 0: last"):
        stand_in(file, "print('first'); print('last')").execute({})
    fails = "import sys; print('error: nothing to learn', file=sys.stderr); print('a child has failed'); sys.exit(2)"
    with pytest.raises(AirflowException, match="exit code 2: error: nothing to learn"):
        stand_in(file, fails).execute({})


def test_an_outcome_of_an_earlier_attempt_counts_only_if_the_step_succeeds(file: Path, work: Path) -> None:
    (work / "gate.json").write_text("{}")
    stand_in(file, "").execute({})  # the step itself saw that its work was done
    fails = "import sys; print('error: the GPU is lost'); sys.exit(2)"
    with pytest.raises(
        AirflowException, match=r"gate wrote no gate\.json in this attempt, only in an earlier one.* 2: error: the GPU"
    ):
        stand_in(file, fails).execute({})


def test_a_snapshot_of_an_earlier_attempt_counts_only_if_spark_submit_succeeds(
    file: Path, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (work / "snapshot" / "snapshot.json").write_text("{}")
    task = dag_of(file).get_task("snapshot")
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


def test_a_killed_step_leaves_no_process_behind(file: Path, work: Path) -> None:
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
    while running(parent) or running(child):  # bounded by the test's time limit
        time.sleep(0.05)
    assert os.getpid() != parent


class Events(dict[Any, Any]):
    """Stand-in for Airflow's outlet events of a task."""

    def __missing__(self, alias: Any) -> Any:
        self[alias] = events = AssetEvents()
        return events


class AssetEvents(list[tuple[str, dict[str, Any]]]):
    def add(self, asset: Asset, extra: dict[str, Any]) -> None:
        self.append((asset.name, extra))


@pytest.mark.parametrize(("promoted", "events"), [(True, [("mail.model", {"version": 7})]), (False, [])])
def test_only_a_promotion_updates_the_asset(promoted: bool, events: list[Any], file: Path, work: Path) -> None:
    (work / "gate.json").write_text(json.dumps({"promoted": promoted}))
    (work / "promote.json").write_text(json.dumps({"version": 7}))
    task, outlet_events = stand_in(file, "", "promote"), Events()
    assert isinstance(task, Promotion)
    task.execute({"outlet_events": outlet_events})
    assert list(itertools.chain(*outlet_events.values())) == events


def write_snapshot(folder: Path, rows: list[tuple[Any, ...]], label_set: Any, signals: int = 3) -> None:
    columns = ("doc_id", "text", "label", "target", "reward", "chosen", "propensity", "score", "held_out")
    types = dict(zip(columns, [*["string"] * 3, "int8", "float", "bool", *["double"] * 2, "bool"], strict=True))
    schema = pa.schema([(name, pa.type_for_alias(kind)) for name, kind in types.items()])
    table = pa.Table.from_pylist([dict(zip(columns, row, strict=True)) for row in rows], schema)
    pq.write_table(table, folder / "snapshot" / "feedback.parquet")
    facts = {"label_set": json.loads(label_set.canonical_json), "counts": {"signals": signals}}
    (folder / "snapshot" / "snapshot.json").write_text(json.dumps(facts))


def test_too_few_decisions_skip_the_training_which_counts_them_alike(
    file: Path, work: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        ("judged", "a", "spam", 1, None, None, None, None, False),
        ("rewarded", "b", "spam", None, -1.0, True, 0.5, 0.7, False),
        ("late click", "c", "spam", None, 1.0, None, None, None, False),
        ("held out", "d", "spam", 0, 1.0, False, 0.5, 0.2, True),
    ]
    label_set = Pipeline.from_yaml(file.parents[1] / "mail.yaml").label_set
    write_deltalake(str(file.parents[1] / "lake" / "feedback"), feedback_of([label_set.hash] * 3))
    write_check(work)
    write_snapshot(work, rows, label_set)
    with caplog.at_level("INFO"):
        assert not retraining_checks.can_train(str(file), RUN)
    assert "2 decisions with a verdict or reward of pipeline mail, 3 are needed (min_decisions); b" in caplog.text
    decisions = read_decisions(work / "snapshot")
    learned = decisions.where(~decisions.held_out)
    assert int((learned.judged | learned.rewarded).sum()) == 2
    documents = work / "snapshot" / "documents.parquet"
    pq.write_table(pa.table({"held_out": [True, False]}), documents)
    assert retraining_checks.can_train(str(file), RUN), "a document that was rewarded as a whole counts, too"
    documents.unlink()
    (work / "check_feedback.json").unlink()
    write_snapshot(work, [*rows, ("more", "e", "lake", None, 0.0, False, 0.5, 0.1, False)], label_set)
    assert retraining_checks.can_train(str(file), RUN)
    (work / "check_feedback.json").unlink()
    write_snapshot(work, rows[:0], label_set)
    assert not retraining_checks.can_train(str(file), RUN)


def write_check(folder: Path, **facts: Any) -> None:
    """Write the outcome of a champion check."""
    check = {"harm": False, "rolled_back": False, "message": "found", "champion": "2" * 64, "decisions": 40}
    (folder / "champion_check.json").write_text(json.dumps({**check, "version": 2, "previous": 1, **facts}))


def feedback_of(hashes: list[str], label: str = "spam") -> pa.Table:
    return pa.table({"label_set_hash": hashes, "label": [label] * len(hashes)})


def test_signals_about_earlier_label_sets_count_for_labels_that_are_left(file: Path, tmp_path: Path) -> None:
    earlier, other = "1" * 64, "2" * 64
    runs = [manifest("tag", label_set_hash=earlier), manifest("tag", label_set_hash=other)]
    write_runs(tmp_path, [runs[0], replace(runs[1], pipeline="contracts")])
    feedback = str(tmp_path / "lake" / "feedback")
    write_deltalake(feedback, feedback_of([earlier, earlier, other, other]))
    write_deltalake(feedback, feedback_of([earlier, earlier], "a label of last year's"), mode="append")
    assert not retraining_checks.plan(str(file), RUN), "two signals; three are needed"
    write_deltalake(feedback, feedback_of([earlier]), mode="append")
    assert retraining_checks.plan(str(file), RUN)


def test_without_enough_signals_the_run_is_skipped(file: Path, tmp_path: Path) -> None:
    assert not retraining_checks.plan(str(file), RUN)
    current = Pipeline.from_yaml(tmp_path / "mail.yaml").label_set.hash
    write_deltalake(str(tmp_path / "lake" / "feedback"), feedback_of([current, current, "0" * 64]))
    assert not retraining_checks.plan(str(file), RUN)
    more = feedback_of([current])
    write_deltalake(str(tmp_path / "lake" / "feedback"), more, mode="append")
    assert retraining_checks.plan(str(file), RUN)
    file.write_text("pipeline: none.yaml\n")
    with pytest.raises(AirflowFailException, match=r"none.yaml does not exist"):
        retraining_checks.plan(str(file), RUN)


def test_without_new_signals_the_run_is_skipped(
    file: Path, work: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    label_set = Pipeline.from_yaml(tmp_path / "mail.yaml").label_set
    feedback = str(tmp_path / "lake" / "feedback")
    write_deltalake(feedback, feedback_of([label_set.hash] * 3))
    facts = {"label_set": json.loads(label_set.canonical_json), "counts": {"signals": 3}}
    (work / "snapshot" / "snapshot.json").write_text(json.dumps(facts))
    assert retraining_checks.plan(str(file), RUN), "the last retraining is unfinished"
    (work / "promote.json").write_text(json.dumps({"version": 7}))
    with caplog.at_level("INFO"):
        assert not retraining_checks.plan(str(file), RUN)
    assert "0 of the 3 signals are new since the last retraining, 1 are needed (min_new_signals)" in caplog.text
    write_deltalake(feedback, feedback_of([label_set.hash]), mode="append")
    assert retraining_checks.plan(str(file), RUN)
    write_retraining(tmp_path, min_new_signals=2)
    assert not retraining_checks.plan(str(file), RUN)
    facts["label_set"]["name"] = "another"
    (work / "snapshot" / "snapshot.json").write_text(json.dumps(facts))
    assert retraining_checks.plan(str(file), RUN), "the last retraining had another label set"


@pytest.fixture
def slack_messages(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The texts that were sent to Slack."""
    with slack({"ok": True}) as (url, requests):
        connection = {"conn_type": "slack", "password": "xoxb-token", "extra": {"base_url": url}}
        monkeypatch.setenv("AIRFLOW_CONN_SLACK_API_DEFAULT", json.dumps(connection))
        yield requests


ALERTED = {"alerts": {"slack": "#mail"}}


@pytest.mark.parametrize(
    ("facts", "events", "lines"),
    [
        ({}, [], None),
        (
            {"harm": True, "rolled_back": True},
            [("mail.model", {"version": 1})],
            [
                "mail: version 2 of the model mail was rolled back to version 1",
                *(f"retraining {RUN}", "found", "gliclass-spark promote mail 2 undoes it; nothing was trained"),
            ],
        ),
        (
            {"harm": True},
            [],
            [
                "mail: version 2 of the model mail does harm, and was not rolled back",
                *(f"retraining {RUN}", "found", "gliclass-spark rollback mail"),
            ],
        ),
    ],
)
def test_harm_by_the_champion_is_sent_and_a_rollback_ends_the_retraining(
    facts: dict[str, Any], events: list[Any], lines: list[str] | None, tmp_path: Path, slack_messages: list[Any]
) -> None:
    write_pipeline(tmp_path)
    file = write_retraining(tmp_path, airflow=ALERTED, min_decisions=1)
    folder = RetrainConfig.from_yaml(file).run_folder(RUN)
    label_set = Pipeline.from_yaml(tmp_path / "mail.yaml").label_set
    write_deltalake(str(tmp_path / "lake" / "feedback"), feedback_of([label_set.hash] * 3))
    (folder / "snapshot").mkdir(parents=True)
    write_snapshot(folder, [("judged", "a", "spam", 1, None, None, None, None, False)], label_set)
    write_check(folder, **facts)
    task, outlet_events = stand_in(file, "", "champion_check"), Events()
    task.execute({"outlet_events": outlet_events})
    assert list(itertools.chain(*outlet_events.values())) == events
    assert [message["text"].splitlines() for _, _, message in slack_messages] == ([lines] if lines else [])
    assert retraining_checks.can_train(str(file), RUN) == (not facts.get("rolled_back"))
    # The whole retraining in one task: it is done where the champion was rolled back, without a promotion.
    slack_messages.clear()
    operator = RetrainOperator(task_id="retrain", config_file=str(file), run_id=RUN, application=task.application)
    if facts.get("rolled_back"):
        operator.execute({})
        assert len(slack_messages) == 1
    else:
        with pytest.raises(AirflowException, match=r"promote wrote no promote\.json"):
            operator.execute({})


def decision(number: int, digest: str, label_set_hash: str) -> dict[str, Any]:
    return {
        **{"doc_id": str(number), "label": "spam", "content_hash": "c", "label_set_hash": label_set_hash},
        **{"chosen": number % 2 == 0, "propensity": 0.5, "model_digest": digest},
    }


def test_the_champion_is_checked_on_new_feedback_that_is_too_little_to_train_on(file: Path, tmp_path: Path) -> None:
    write_retraining(tmp_path, min_decisions=1000)
    recorded = Pipeline.from_yaml(tmp_path / "mail.yaml")
    write_runs(tmp_path, [manifest("tag", label_set_hash=recorded.label_set.hash, model_digest="2" * 64)])
    rows = [decision(number, "2" * 64, recorded.label_set.hash) for number in range(29)]
    write_deltalake(str(tmp_path / "lake" / "feedback"), pa.Table.from_pylist(rows))
    assert not retraining_checks.plan(str(file), RUN), "29 decisions; 30 are needed"
    more = [decision(number, digest, recorded.label_set.hash) for number, digest in ((29, "2" * 64), (30, "1" * 64))]
    write_deltalake(str(tmp_path / "lake" / "feedback"), pa.Table.from_pylist(more), mode="append")
    assert retraining_checks.plan(str(file), RUN)
    earlier = RetrainConfig.from_yaml(file).run_folder("earlier")
    earlier.mkdir(parents=True)
    write_check(earlier, decisions=1)
    assert not retraining_checks.plan(str(file), RUN), "29 are new since the last check"


def test_retrainings_that_are_skipped_in_a_row_are_sent_once(
    tmp_path: Path, slack_messages: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    write_pipeline(tmp_path)
    file = write_retraining(tmp_path, airflow={**ALERTED, "alert_after_skips": 3})
    current = Pipeline.from_yaml(tmp_path / "mail.yaml").label_set.hash
    write_deltalake(str(tmp_path / "lake" / "feedback"), feedback_of([current, current]))

    def skip(run: str) -> None:
        with pytest.raises(AirflowSkipException, match="there is too little feedback for a retraining"):
            RetrainOperator(task_id="retrain", config_file=str(file), run_id=run).execute({})

    for run in ("week 1", "week 1", "week 2"):  # a retry is no other run
        skip(run)
    assert slack_messages == []
    for run in ("week 3", "week 3", "week 4"):
        skip(run)
    [(_, _, message)] = slack_messages
    subject, text = message["text"].splitlines()
    assert subject == "mail: 3 retrainings in a row were skipped"
    assert re.fullmatch(
        r"since 20..-..-.. ..:.. UTC: 2 signals of pipeline mail, 3 are needed \(min_decisions\); bring more feedback "
        r"\(gliclass-spark feedback\), or lower min_decisions",
        text,
    )
    # One with enough ends the row.
    folder = RetrainConfig.from_yaml(file).run_folder("week 5")
    (folder / "snapshot").mkdir(parents=True)
    write_check(folder)
    write_deltalake(str(tmp_path / "lake" / "feedback"), feedback_of([current]), mode="append")
    rows = [(f"{number}", "a", "spam", 1, None, None, None, None, False) for number in range(3)]
    write_snapshot(folder, rows, Pipeline.from_yaml(tmp_path / "mail.yaml").label_set)
    assert retraining_checks.plan(str(file), "week 5")
    assert retraining_checks.can_train(str(file), "week 5")
    write_retraining(tmp_path, airflow={**ALERTED, "alert_after_skips": 2}, min_decisions=9)
    for week in (6, 7, 8):
        skip(f"week {week}")
    assert [message["text"].splitlines()[0] for _, _, message in slack_messages[1:]] == [
        "mail: 2 retrainings in a row were skipped"
    ]


FINDINGS = [
    {"rule": "min_f1_gain", "passed": True, "message": "macro-F1 on golden: 0.800 -> 0.810"},
    {"rule": "max_slowdown", "passed": False, "message": "takes 2.00 times the champion's time, at most 1.50"},
]


@pytest.mark.parametrize(
    ("promoted", "result"),
    [(True, "is the champion"), (False, "is refused, and stays the challenger")],
)
def test_promotions_and_refusals_are_sent_with_failed_rules_first(
    promoted: bool, result: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write_pipeline(tmp_path)
    file = write_retraining(tmp_path, airflow={"alerts": {"slack": "#mail"}})
    work = RetrainConfig.from_yaml(file).run_folder(RUN)
    work.mkdir(parents=True)
    (work / "gate.json").write_text(json.dumps({"promoted": promoted, "findings": FINDINGS}))
    (work / "promote.json").write_text(json.dumps({"version": 7}))
    with slack({"ok": True}) as (url, requests), caplog.at_level("INFO"):
        connection = {"conn_type": "slack", "password": "xoxb-token", "extra": {"base_url": url}}
        monkeypatch.setenv("AIRFLOW_CONN_SLACK_API_DEFAULT", json.dumps(connection))
        retraining_checks.notify(str(file), RUN)
    [(_, _, message)] = requests
    assert message["text"].splitlines() == [
        f"mail: version 7 of the model mail {result}",
        f"retraining {RUN}",
        "FAILED: max_slowdown: takes 2.00 times the champion's time, at most 1.50",
        "passed: min_f1_gain: macro-F1 on golden: 0.800 -&gt; 0.810",
        f"report: {work / 'gate.html'}",
    ]
    assert f"version 7 of the model mail {result}" in caplog.text


def test_the_files_of_the_documentation_make_a_dag(tmp_path: Path) -> None:
    documentation = (ROOT / "docs" / "retraining.md").read_text(encoding="utf-8")
    for name, document in re.findall(r"`(conf/[\w./]+\.yaml)`:\n\n```yaml\n(.*?)```", documentation, re.DOTALL):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(document)
    shutil.copytree(ROOT / "conf" / "spark", tmp_path / "conf" / "spark")
    files = read_retrainings(tmp_path)
    assert files.errors == []
    [config] = files.configs.values()
    assert config.pipeline.name == "support_mail"
