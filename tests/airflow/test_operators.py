"""Operators and sensor in a DAG of one's own."""

from __future__ import annotations

import ast
import asyncio
import json
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import airflow
import jsonschema
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, TaskDeferred
from deltalake import DeltaTable, write_deltalake
from docs_blocks import DOCS, blocks
from retraining_files import write_pipeline, write_retraining
from spark_submit_stand_in import fake_spark_submit
from written_runs import manifest, write_runs

from gliclass_spark.airflow.operators import (
    FilterOperator,
    GLiClassTagOperator,
    NewDocumentsSensor,
    RetrainOperator,
    RouteOperator,
)
from gliclass_spark.airflow.operators.new_documents import NewDocumentsTrigger
from gliclass_spark.airflow.operators.spark_step import APPLICATION
from gliclass_spark.airflow.operators.training_step import outcome_path
from gliclass_spark.airflow.provider import get_provider_info
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.runs.manifest import VersionRange


@pytest.fixture
def file(tmp_path: Path) -> Path:
    document = {
        "name": "mail",
        "source": {"path": "mail", "id": "id", "text": "body"},
        "label_set": ["spam"],
        "tables": "lake",
    }
    path = tmp_path / "mail.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def add_documents(folder: Path) -> DeltaTable:
    rows = pa.table({"id": ["1"], "body": ["a text"]})
    write_deltalake(str(folder / "mail"), rows, mode="append")
    return DeltaTable(str(folder / "mail"))


def test_the_dag_of_the_documentation_has_the_jobs_beside_other_tasks(tmp_path: Path) -> None:
    [own, databricks] = [block.text for block in blocks(DOCS / "airflow.md") if block.language == "python"]
    names: dict[str, Any] = {}
    exec(compile(own, "airflow.md", "exec"), names)  # noqa: S102 - the documentation's own code
    dag = names["curate"]()
    assert [task.task_id for task in dag.topological_sort()] == [
        "new_documents",
        "tag",
        "filter",
        "route",
        "publish",
    ]
    assert [type(dag.get_task(name)) for name in ("tag", "filter", "route")] == [
        GLiClassTagOperator,
        FilterOperator,
        RouteOperator,
    ]
    # Its provider is not installed here.
    imported = [node.module for node in ast.walk(ast.parse(databricks)) if isinstance(node, ast.ImportFrom)]
    assert "airflow.providers.databricks.operators.databricks" in imported


def test_files_and_times_may_be_templates(file: Path) -> None:
    with DAG("own", start_date=datetime(2026, 1, 1, tzinfo=UTC)):
        tag = GLiClassTagOperator(
            task_id="tag", pipeline_file="{{ params.folder }}/mail.yaml", run_id="{{ ds }}", until="{{ params.until }}"
        )
    run = SimpleNamespace(run_after=datetime(2026, 3, 1, 2, tzinfo=UTC))
    params = {"folder": str(file.parent), "until": "2026-03-01T02:00:00+00:00"}
    tag.render_template_fields({"params": params, "ds": "2026-03-01", "dag_run": run})
    assert tag.application == APPLICATION
    until = ["--until", "2026-03-01T02:00:00+00:00"]
    assert tag.arguments() == ["tag", str(file), "--run-id", "2026-03-01", *until]
    latest = GLiClassTagOperator(task_id="latest", pipeline_file=str(file), run_id="run-1", until=None)
    assert latest.arguments() == ["tag", str(file), "--run-id", "run-1"]


def test_an_operator_needs_no_parameters_of_the_dag_and_succeeds_by_the_manifest(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    operator = FilterOperator(task_id="filter", pipeline_file=str(file), run_id="run-1")
    fake_spark_submit(tmp_path, monkeypatch, 0)
    with pytest.raises(AirflowException, match=r"lake/runs: pipeline .mail. has not run yet.*; spark-submit: success"):
        operator.execute({})
    fake_spark_submit(tmp_path, monkeypatch, 0, "run_manifests(1)")
    operator.execute({})
    submitted = (tmp_path / "arguments").read_text().splitlines()
    assert submitted[-5:] == [APPLICATION, "filter", str(file), "--run-id", "run-1"]


@pytest.mark.parametrize("operator", [GLiClassTagOperator, FilterOperator, RouteOperator, NewDocumentsSensor])
def test_wrong_arguments_are_refused_when_the_dag_is_parsed(operator: Any) -> None:
    with pytest.raises((AirflowException, TypeError), match="pipeline_file"):
        operator(task_id="step")
    with pytest.raises(TypeError, match="pipline_file"):
        operator(task_id="step", pipeline_file="mail.yaml", pipline_file="mail.yaml")


@pytest.mark.parametrize(
    ("operator", "arguments", "kind", "message"),
    [
        (GLiClassTagOperator, {"pipeline_file": None}, TypeError, "pipeline_file must be the path of a YAML file"),
        (NewDocumentsSensor, {"pipeline_file": ""}, TypeError, "pipeline_file must be the path of a YAML file"),
        (RetrainOperator, {"config_file": 3}, TypeError, "config_file must be the path of a YAML file, found 3"),
        (RetrainOperator, {"config_file": "mail.yaml", "processes": 0}, ValueError, "processes must be a whole"),
        (GLiClassTagOperator, {"pipeline_file": "mail.yaml", "until": "yesterday"}, ValueError, "until must be a time"),
        (FilterOperator, {"pipeline_file": "mail.yaml", "run_date": "today"}, ValueError, "run_date must be a"),
        (FilterOperator, {"pipeline_file": "mail.yaml", "until": datetime(2026, 3, 1)}, TypeError, "until must be a"),
    ],
)
def test_a_wrong_value_is_refused_when_the_dag_is_parsed(
    operator: Any, arguments: dict[str, Any], kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        operator(task_id="step", **arguments)


def test_a_file_may_be_a_path_or_another_tasks_output(file: Path) -> None:
    assert FilterOperator(task_id="step", pipeline_file=file, run_id="run-1").arguments()[1] == str(file)
    with DAG("own", start_date=datetime(2026, 1, 1, tzinfo=UTC)):

        @task
        def choose() -> str:
            return str(file)

        tag = GLiClassTagOperator(task_id="tag", pipeline_file=choose())
    assert tag.upstream_task_ids == {"choose"}


def test_a_missing_pipeline_file_is_one_line(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent.yaml")
    with pytest.raises(AirflowException, match=r"absent\.yaml"):
        RouteOperator(task_id="route", pipeline_file=absent, run_id="run-1").execute({})
    with pytest.raises(AirflowFailException, match=r"absent\.yaml"):
        NewDocumentsSensor(task_id="wait", pipeline_file=absent).poke({})


def test_the_sensor_waits_for_versions_that_no_run_has_read(file: Path, tmp_path: Path) -> None:
    sensor = NewDocumentsSensor(task_id="wait", pipeline_file=str(file), poke_interval=0.1, timeout=60)
    with pytest.raises(AirflowFailException, match="mail"):
        sensor.poke({})
    source = add_documents(tmp_path)
    assert sensor.poke({}), "nothing has been tagged"
    read = {"source": VersionRange(str(source.metadata().id), None, source.version())}
    write_runs(tmp_path, [manifest("tag", "run-1", inputs=read)])
    assert not sensor.poke({})

    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({})
    assert (deferred.value.method_name, deferred.value.timeout.total_seconds()) == ("execute_complete", 60)
    path, arguments = deferred.value.trigger.serialize()
    assert path == "gliclass_spark.airflow.operators.new_documents.NewDocumentsTrigger"

    async def first_event() -> Any:
        events = NewDocumentsTrigger(**arguments).run()
        waiting = asyncio.ensure_future(anext(events))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        add_documents(tmp_path)
        return await waiting

    event = asyncio.run(first_event())
    assert event.payload == {"pipeline_file": str(file)}
    sensor.execute_complete({}, event.payload)
    sensor.execute({})  # at once, without the triggerer

    write_runs(tmp_path, [replace(manifest("tag", "run-2", "failed", inputs=read), sequence=2)])
    assert sensor.poke({}), "a failed run has read nothing"


def test_the_sensor_refuses_a_source_without_versions(file: Path) -> None:
    document = yaml.safe_load(file.read_text())
    file.write_text(yaml.safe_dump({**document, "source": {**document["source"], "format": "json"}}))
    with pytest.raises(AirflowFailException, match="keeps no versions that can be read here; schedule the run by time"):
        NewDocumentsSensor(task_id="wait", pipeline_file=str(file)).poke({})


def test_a_retraining_is_one_task_that_is_skipped_with_too_few_signals(tmp_path: Path) -> None:
    label_set = Pipeline.from_yaml(write_pipeline(tmp_path)).label_set
    config_file, program = str(write_retraining(tmp_path)), tmp_path / "application.py"
    operator = RetrainOperator(task_id="retrain", config_file=config_file, run_id="run-1", application=str(program))
    with pytest.raises(AirflowSkipException, match="too little feedback"):
        operator.execute({})

    feedback = pa.table({"label_set_hash": [label_set.hash] * 3, "label": [label_set.names[0]] * 3})
    write_deltalake(str(tmp_path / "lake" / "feedback"), feedback)
    program.write_text("print('nothing is written')")
    with pytest.raises(AirflowException, match=r"promote wrote no promote\.json; .* 0: nothing is written"):
        operator.execute({})
    promote = outcome_path(config_file, "run-1", "promote")
    promote.parent.mkdir(parents=True)
    outcome_path(config_file, "run-1", "champion_check").write_text('{"harm": false, "rolled_back": false}')
    outcome_path(config_file, "run-1", "check_feedback").write_text('{"trains": true, "message": "3 signals"}')
    program.write_text(f"import json, sys; json.dump(sys.argv[1:], open({str(promote)!r}, 'w'))")
    operator.execute({})
    assert json.loads(promote.read_text()) == ["retrain", config_file, "--run-id", "run-1", "--if-new-feedback"]


@pytest.mark.parametrize("rolled_back", [False, True])
def test_a_retraining_in_one_task_checks_the_champion_with_too_little_to_train_on(
    rolled_back: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    label_set = Pipeline.from_yaml(write_pipeline(tmp_path)).label_set
    config_file, program = str(write_retraining(tmp_path, min_decisions=1000)), tmp_path / "application.py"
    write_runs(tmp_path, [manifest("tag", label_set_hash=label_set.hash, model_digest="2" * 64)])
    decision = {"label": "spam", "content_hash": "c", "label_set_hash": label_set.hash, "model_digest": "2" * 64}
    rows = [{"doc_id": str(number), **decision, "chosen": True, "propensity": 0.5} for number in range(30)]
    write_deltalake(str(tmp_path / "lake" / "feedback"), pa.Table.from_pylist(rows))
    check = {"harm": rolled_back, "rolled_back": rolled_back, "message": "measured", "version": 2, "previous": 1}
    too_little = {"trains": False, "message": "30 signals, 1000 are needed"}
    folder = outcome_path(config_file, "run-1", "champion_check").parent
    (folder / "snapshot").mkdir(parents=True)
    (folder / "snapshot" / "snapshot.json").write_text('{"counts": {"signals": 30}}')
    columns = {"target": pa.int8(), "reward": pa.float32(), "chosen": pa.bool_(), "held_out": pa.bool_()}
    pq.write_table(pa.schema(list(columns.items())).empty_table(), folder / "snapshot" / "feedback.parquet")
    outcomes = {"champion_check": check, **({} if rolled_back else {"check_feedback": too_little})}
    lines = [f"open({str(folder / name)!r} + '.json', 'w').write({json.dumps(outcomes[name])!r})" for name in outcomes]
    program.write_text("\n".join(lines))
    operator = RetrainOperator(task_id="retrain", config_file=config_file, run_id="run-1", application=str(program))
    with caplog.at_level("WARNING"):
        if rolled_back:
            operator.execute({})
            assert "mail: version 2 of the model mail was rolled back to version 1" in caplog.text
            assert not (folder.parent / "skipped_retrainings.json").exists()
        else:
            with pytest.raises(
                AirflowSkipException, match="the champion was checked, and there is too little feedback"
            ):
                operator.execute({})
            assert json.loads((folder.parent / "skipped_retrainings.json").read_text())["run_ids"] == ["run-1"]


def test_airflow_takes_the_package_for_a_provider() -> None:
    schema = json.loads((Path(airflow.__path__[0]) / "provider_info.schema.json").read_text())
    info = get_provider_info()
    jsonschema.validate(info, schema)
    for kind in ("operators", "sensors", "triggers"):
        for entry in info[kind]:
            for module in entry["python-modules"]:
                __import__(module)


def test_process_groups_need_no_airflow() -> None:
    program = "import sys, gliclass_spark.airflow.operators.process_group; sys.exit('airflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
