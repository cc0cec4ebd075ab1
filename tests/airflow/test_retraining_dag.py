"""DAGs of retraining files."""

from __future__ import annotations

import itertools
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from dag_files import HEAVY, ROOT, dag_bag, parse
from retraining_files import write_pipeline, write_retraining
from retraining_tasks import dag_of

from gliclass_spark.airflow.dags.retraining_files import read_retrainings
from gliclass_spark.airflow.operators.spark_step import APPLICATION
from gliclass_spark.errors import ConfigError

ORDER = [
    *("plan", "snapshot", "champion_check", "check_feedback", "supervised"),
    *("ppo", "calibrate", "gate", "promote", "notify"),
]


def scheduled(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[set[str], dict[str, str]]:
    """Return the DAG ids and import errors of the files in the folder."""
    (folder / "pipelines").mkdir(exist_ok=True)
    monkeypatch.setenv("GLICLASS_PIPELINES", str(folder / "pipelines"))
    monkeypatch.setenv("GLICLASS_RETRAIN", str(folder / "retrain"))
    bag = dag_bag()
    return set(bag.dags), bag.import_errors


def test_the_steps_of_a_retraining_follow_each_other_one_run_at_a_time(retraining_file: Path) -> None:
    dag = dag_of(retraining_file)
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


def test_a_dag_documents_its_rules(retraining_file: Path, tmp_path: Path) -> None:
    documentation = str(dag_of(retraining_file).doc_md)
    assert "Trains **models:/mail@champion**" in documentation
    assert "| max_slowdown | 1.5 |" in documentation
    assert f"`{tmp_path / 'golden.jsonl'}`" in documentation


def test_parsing_loads_nothing_heavy(retraining_file: Path) -> None:
    result = parse("retraining", GLICLASS_RETRAIN=str(retraining_file.parent))
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
    parts: dict[str, Any], message: str, retraining_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
    retraining_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand = write_retraining(tmp_path, "by_hand", airflow=None)
    monkeypatch.setenv("GLICLASS_RETRAIN", str(tmp_path / "retrain"))
    files = read_retrainings(tmp_path)
    assert (set(files.configs), files.errors) == ({retraining_file}, [])
    assert by_hand.exists()
    monkeypatch.delenv("GLICLASS_RETRAIN")
    assert read_retrainings(tmp_path).configs == {}
    monkeypatch.setenv("GLICLASS_RETRAIN", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match=r"there is no folder .*none; set GLICLASS_RETRAIN"):
        read_retrainings(tmp_path)


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
