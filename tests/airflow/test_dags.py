"""DAGs of pipeline files, and the import errors of invalid files."""

from __future__ import annotations

import itertools
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pendulum
import pytest
import yaml
from airflow.dag_processing.dagbag import DagBag
from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import TimeRestriction
from dag_files import HEAVY, ROOT, dag_bag, parse

from gliclass_spark.airflow.dags.pipeline_dag import pipeline_dag
from gliclass_spark.airflow.dags.pipeline_files import read_pipelines
from gliclass_spark.airflow.dags.scheduled_dag import asset
from gliclass_spark.airflow.operators.spark_step import APPLICATION, RUN_DATE, UNTIL
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.errors import ConfigError

DOCUMENT: dict[str, Any] = {
    "name": "mail",
    "source": {"path": "documents", "id": "id", "text": "body"},
    "label_set": ["spam"],
    "tables": "lake",
    "reject": [{"reason": "spam", "when": "scores['spam'] > 0.5 or body like '%|%'"}],
    "routes": [{"route": "shop", "when": "body like 'buy%'"}],
    "airflow": {"cron": "0 2 * * *"},
}


def write(folder: Path, file_name: str, **parts: Any) -> Path:
    file = folder / f"{file_name}.yaml"
    file.write_text(yaml.safe_dump({**DOCUMENT, "name": file_name, **parts}))
    return file


def dag_of(folder: Path, **parts: Any) -> DAG:
    file = write(folder, "mail", **parts)
    return pipeline_dag(file, Pipeline.from_yaml(file))


def bag_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> DagBag:
    """Parse the project's DAG files with the pipeline files of a folder."""
    monkeypatch.setenv("GLICLASS_PIPELINES", str(folder))
    return dag_bag()


def test_parsing_dag_files_loads_nothing_heavy() -> None:
    result = parse("pipelines", "import_errors")
    print(f"{result['seconds']:.2f} s besides Airflow's own import")
    assert HEAVY & {name.split(".")[0] for name in result["modules"]} == set()
    assert result["dags"] == ["corpus", "lake_tags"]


def test_the_shipped_dags_have_no_import_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    bag = bag_of(ROOT / "conf" / "pipelines", monkeypatch)
    assert bag.import_errors == {}
    assert set(bag.dags) == {"corpus", "lake_tags"}


def test_the_tasks_of_a_pipeline_follow_each_other(tmp_path: Path) -> None:
    dag = dag_of(tmp_path)
    order = ["plan", "tag", "filter", "route", "verify", "report"]
    assert set(dag.task_ids) == set(order)
    for task, next_task in itertools.pairwise(order):
        assert dag.get_task(task).downstream_task_ids == {next_task}
    assert dag.max_active_runs == 1
    tags_only = dag_of(tmp_path, steps=["tag"], reject=[], routes=[])
    assert set(tags_only.task_ids) == {"plan", "tag", "verify", "report"}


def test_the_airflow_part_sets_schedule_retries_and_pool(tmp_path: Path) -> None:
    (tmp_path / "gpu.yaml").write_text("spark.master: yarn\nspark.executor.cores: 4\n")
    schedule = {
        "cron": "30 4 * * 1",
        "timezone": "Europe/Vienna",
        "start": "2026-02-03",
        "catchup": True,
        "owner": "curation",
        "tags": ["corpus"],
        "retries": 5,
        "retry_delay_s": 7,
        "timeout_s": 600,
        "pool": "gpu",
        "spark_conf": "gpu.yaml",
        "connection": "cluster",
    }
    dag = dag_of(tmp_path, airflow=schedule)
    assert dag.schedule == "30 4 * * 1"
    assert (str(dag.start_date), dag.timezone.name) == ("2026-02-02 23:00:00+00:00", "Europe/Vienna")
    assert (dag.catchup, dag.tags) == (True, {"corpus", "gliclass"})
    tag, filter_ = dag.get_task("tag"), dag.get_task("filter")
    assert (tag.owner, tag.retries, tag.retry_delay) == ("curation", 5, timedelta(seconds=7))
    assert (tag.retry_exponential_backoff, tag.execution_timeout) == (True, timedelta(minutes=10))
    assert (tag.pool, filter_.pool) == ("gpu", "default_pool")
    assert tag._conn_id == "cluster"
    assert {"spark.executor.cores": "4", "spark.log.level": "WARN"}.items() <= tag.conf.items()
    assert set(tag.conf) - {"spark.jars.excludes"} == {"spark.executor.cores", "spark.log.level"}
    assert tag.application == APPLICATION
    assert Path(APPLICATION).is_file()
    file = str(tmp_path / "mail.yaml")
    assert tag.arguments() == ["tag", file, "--run-id", "{{ run_id }}", "--until", UNTIL]
    assert filter_.arguments() == ["filter", file, "--run-id", "{{ run_id }}"]
    assert {"pipeline_file", "run_id", "until", "run_date"} <= set(tag.template_fields)


def test_a_scheduled_run_reads_up_to_its_due_time_and_a_manual_run_up_to_when_it_may_start(tmp_path: Path) -> None:
    due, now = datetime(2026, 11, 23, 2, tzinfo=UTC), datetime(2026, 11, 23, 17, tzinfo=UTC)
    run = SimpleNamespace(run_after=now)
    template = dag_of(tmp_path).get_template_env().from_string(UNTIL)
    assert template.render(dag_run=run, data_interval_end=due) == due.isoformat()
    # An asset-triggered or manual run has no interval, or None.
    assert template.render(dag_run=run, data_interval_end=None) == now.isoformat()
    assert template.render(dag_run=run) == now.isoformat()


def test_rules_that_use_the_date_of_the_run_get_that_of_its_due_time(tmp_path: Path) -> None:
    steps = ("filter", "route")
    plain = dag_of(tmp_path)
    assert not any("--run-date" in plain.get_task(step).arguments() for step in steps)
    dated = dag_of(tmp_path, reject=[{"reason": "old", "when": "run_date > published"}])
    assert [dated.get_task(step).arguments()[-2:] for step in steps] == [["--run-date", RUN_DATE]] * 2
    due = datetime(2026, 11, 23, 2, tzinfo=UTC)
    template = dated.get_template_env().from_string(RUN_DATE)
    assert template.render(dag_run=SimpleNamespace(run_after=None), data_interval_end=due) == "2026-11-23"


def test_a_source_without_versions_is_read_as_it_is(tmp_path: Path) -> None:
    source = {"path": "documents", "id": "id", "text": "body", "format": "parquet"}
    assert "--until" not in dag_of(tmp_path, source=source).get_task("tag").arguments()


def test_tables_are_assets_that_can_trigger_other_pipelines(tmp_path: Path) -> None:
    dag = dag_of(tmp_path)
    outlets = {step: {entry.name for entry in dag.get_task(step).outlets} for step in ("tag", "filter", "route")}
    assert outlets == {
        "tag": {"mail.tags"},
        "filter": {"mail.kept", "mail.rejected", "mail.quarantined"},
        "route": {"mail.shop", "mail.unrouted"},
    }
    pipeline = Pipeline.from_yaml(write(tmp_path, "mail", tables="s3a://bucket/lake"))
    assert asset(pipeline, "kept").uri == "s3a://bucket/lake/kept"
    after = dag_of(tmp_path, airflow={"after": ["corpus.kept"]})
    assert [entry.name for entry in after.schedule] == ["corpus.kept"]


def test_a_cron_expression_and_assets_both_trigger_runs(tmp_path: Path) -> None:
    dag = dag_of(tmp_path, airflow={"cron": "0 2 * * *", "timezone": "Europe/Vienna", "after": ["corpus.kept"]})
    # Serialized and back, as the scheduler sees the DAG.
    timetable = DagSerialization.from_dict(DagSerialization.to_dict(dag)).timetable
    assert timetable.summary == "Asset or 0 2 * * *"
    assert timetable.can_be_scheduled
    span = TimeRestriction(earliest=pendulum.datetime(2026, 11, 22), latest=None, catchup=True)
    due = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=span)
    assert due.run_after == pendulum.datetime(2026, 11, 22, 2, tz="Europe/Vienna")
    assert [entry.name for entry in timetable.asset_condition.objects] == ["corpus.kept"]


def test_a_dag_documents_its_pipelines_configuration(tmp_path: Path) -> None:
    documentation = str(dag_of(tmp_path).doc_md)
    assert "| reject: spam | `scores['spam'] > 0.5 or body like '%\\|%'` |" in documentation
    assert "| to unrouted | no route matched |" in documentation
    assert f"`{tmp_path / 'mail.yaml'}`" in documentation


INVALID = {
    "an unknown key": ({"tabels": "x"}, "unknown key 'tabels'"),
    "an invalid cron expression": ({"airflow": {"cron": "61 2 * * *"}}, "airflow.cron: '61 2 * * *' is no cron"),
    "a missing conf file": ({"airflow": {"spark_conf": "none.yaml"}}, "none.yaml"),
    "an alert without its provider": (
        {"airflow": {"alerts": {"slack": "#data"}}},
        "airflow.alerts.slack needs apache-",
    ),
}


@pytest.mark.parametrize(("parts", "message"), INVALID.values(), ids=INVALID)
def test_an_invalid_file_is_an_import_error_and_leaves_other_dags_alone(
    parts: dict[str, Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, "good")
    file = write(tmp_path, "invalid", **parts)
    monkeypatch.setitem(sys.modules, "airflow.providers.slack", None)  # as if the provider were not installed
    bag = bag_of(tmp_path, monkeypatch)
    assert set(bag.dags) == {"good"}
    assert set(bag.import_errors) == {"import_errors.py"}
    assert message in bag.import_errors["import_errors.py"]
    assert str(file) in bag.import_errors["import_errors.py"] or "none.yaml" in message


CRON = {"cron": "0 2 * * *"}
# Values that the scheduler, or a column of Airflow's database, has limits for; and some at the limit.
UNUSUAL: dict[str, dict[str, Any]] = {
    "timeout-of-a-year": {"airflow": {**CRON, "timeout_s": 365 * 24 * 3600}},
    "timeout-too-large": {"airflow": {**CRON, "timeout_s": 10**14}},
    "delay-too-large": {"airflow": {**CRON, "retry_delay_s": 10**14}},
    "retries-too-many": {"airflow": {**CRON, "retries": 10**11}},
    "start-too-early": {"airflow": {**CRON, "start": "0001-01-01", "timezone": "Asia/Tokyo"}},
    "start-too-late": {"airflow": {**CRON, "start": "9999-12-31"}},
    "tag-of-100": {"airflow": {**CRON, "tags": ["t" * 100]}},
    "tag-too-long": {"airflow": {**CRON, "tags": ["t" * 101]}},
    "tag-empty": {"airflow": {**CRON, "tags": [""]}},
    "owner-too-long": {"airflow": {**CRON, "owner": "o" * 3000}},
    "pool-too-long": {"airflow": {**CRON, "pool": "p" * 1000}},
    "pool-empty": {"airflow": {**CRON, "pool": ""}},
    "connection-empty": {"airflow": {**CRON, "connection": ""}},
    "cron-of-february-30": {"airflow": {"cron": "0 2 30 2 *"}},
    "cron-of-february-30-or-assets": {"airflow": {"cron": "0 2 30 2 *", "after": ["corpus.kept"]}},
    "cron-of-february-29": {"airflow": {"cron": "0 2 29 2 *"}},
    "cron-of-a-single-year": {"airflow": {"cron": "0 2 * * * * 2040"}},
    "tables-too-long": {"tables": "l" * 2000},
    "tables-of-a-reserved-scheme": {"tables": "airflow://bucket/lake"},
    "tables-with-a-template": {"tables": "lake/{{ 1 / 0 }}"},
    "tables-without-a-location": {"tables": {"schema": "main.mail"}},
    "tables-in-a-schema": {"tables": {"schema": "main.mail", "location": "s3a://bucket/lake"}},
    "name-too-long": {"name": "n" * 201},
}
AT_THE_LIMIT = {
    *("timeout-of-a-year", "tag-of-100", "cron-of-february-29", "tables-with-a-template", "tables-in-a-schema"),
}


def test_a_file_that_airflow_refuses_is_an_import_error_and_leaves_other_dags_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, parts in UNUSUAL.items():
        write(tmp_path, name, **parts)
    write(tmp_path, "good")
    with monkeypatch.context() as patched:
        # An error that nobody foresaw, in a file of its own.
        write(tmp_path, "unforeseen")
        read = Pipeline.from_yaml
        patched.setattr(Pipeline, "from_yaml", lambda path: 1 // 0 if path.stem == "unforeseen" else read(path))
        bag = bag_of(tmp_path, patched)
    assert set(bag.dags) == {"good", *AT_THE_LIMIT}
    assert set(bag.import_errors) == {"import_errors.py"}
    refused = {name for name in UNUSUAL if str(tmp_path / f"{name}.yaml") in bag.import_errors["import_errors.py"]}
    assert refused == set(UNUSUAL) - AT_THE_LIMIT
    too_long = f"{tmp_path}/name-too-long.yaml: name: String should have at most 200 characters"
    assert too_long in bag.import_errors["import_errors.py"]
    assert f"{tmp_path}/unforeseen.yaml: ZeroDivisionError: " in bag.import_errors["import_errors.py"]
    for dag in bag.dags.values():  # as the DAG processor goes on; an error of one would end it for all
        scheduled = DagSerialization.from_dict(DagSerialization.to_dict(dag))
        for catchup in (False, True):
            span = TimeRestriction(earliest=scheduled.start_date, latest=None, catchup=catchup)
            assert scheduled.timetable.next_dagrun_info(last_automated_data_interval=None, restriction=span)


def test_a_second_pipeline_with_the_same_name_is_an_import_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = write(tmp_path, "a", name="mail"), write(tmp_path, "b", name="mail")
    bag = bag_of(tmp_path, monkeypatch)
    assert set(bag.dags) == {"mail"}
    assert (
        f"{second}: name: 'mail' is the name of {first} too; give it another" in bag.import_errors["import_errors.py"]
    )


def test_a_pipeline_without_an_airflow_part_has_no_dag(tmp_path: Path) -> None:
    write(tmp_path, "mail", airflow=None)
    assert read_pipelines(tmp_path).scheduled == {}
    with pytest.raises(ConfigError, match=r"there is no folder .*none; set GLICLASS_PIPELINES"):
        read_pipelines(tmp_path / "none")
