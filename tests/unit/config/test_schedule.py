"""Schedules: the section `airflow:` of pipelines and retrainings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.config.schedule import RetrainSchedule
from gliclass_spark.errors import ConfigError

DOCUMENT: dict[str, Any] = {
    "name": "mail",
    "source": {"path": "mail", "id": "id", "text": "body"},
    "label_set": ["spam"],
    "tables": "lake",
}


def read(folder: Path, **parts: Any) -> Pipeline:
    file = folder / "mail.yaml"
    file.write_text(yaml.safe_dump({**DOCUMENT, **parts}))
    return Pipeline.from_yaml(file)


def test_keys_of_a_schedule_have_defaults(tmp_path: Path) -> None:
    assert read(tmp_path).airflow is None
    schedule = read(tmp_path, airflow={}).airflow
    assert schedule is not None
    assert (schedule.cron, schedule.after, schedule.catchup, schedule.retries) == (None, (), False, 3)


def test_a_spark_conf_is_resolved_from_the_folder_of_the_file(tmp_path: Path) -> None:
    schedule = read(tmp_path, airflow={"cron": "0 2 * * *", "spark_conf": "spark/gpu.yaml"}).airflow
    assert schedule is not None
    assert schedule.spark_conf == str(tmp_path / "spark" / "gpu.yaml")


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"cron": "61 2 * * *"}, "airflow.cron: '61 2 * * *' is no cron; write minute, hour, day"),
        ({"cron": "nightly"}, "airflow.cron: 'nightly' is no cron"),
        ({"after": ["kept"]}, "airflow.after: 'kept' is no table of a pipeline; write pipeline.table"),
        ({"timezone": "Vienna"}, "airflow.timezone: 'Vienna' is no time zone; write one like"),
        ({"crn": "0 2 * * *"}, "unknown key 'airflow.crn'"),
        ({"retries": -1}, "airflow.retries: Input should be greater than or equal to 0, found -1"),
        ({"timeout_s": 0}, "airflow.timeout_s: Input should be greater than 0, found 0"),
        ({"alerts": {"sms": "1"}}, "unknown key 'airflow.alerts.sms'"),
    ],
)
def test_an_invalid_schedule_is_refused_with_file_and_key(part: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        read(tmp_path, airflow=part)
    assert str(refused.value).startswith(str(tmp_path / "mail.yaml"))
    assert message in str(refused.value)


def test_a_retraining_is_weekly_by_default(tmp_path: Path) -> None:
    def read_schedule(**part: Any) -> RetrainSchedule:
        return RetrainSchedule.model_validate(part, context={"folder": tmp_path})

    weekly = read_schedule(python="train/bin/python")
    assert (weekly.cron, weekly.after, weekly.pool, weekly.processes) == ("0 4 * * 0", (), "gpu", 1)
    assert weekly.python == str(tmp_path / "train" / "bin" / "python")
    after = read_schedule(after=["mail.feedback"])
    assert (after.cron, after.after) == (None, ("mail.feedback",))
    both = read_schedule(cron="0 4 * * 0", after=["mail.feedback"])
    assert (both.cron, both.after) == ("0 4 * * 0", ("mail.feedback",))
    assert read_schedule(cron="0 5 * * 1").cron == "0 5 * * 1"
    assert read_schedule(cron=None).cron is None


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"processes": 0}, "greater than or equal to 1"),
        ({"catchup": True}, "Extra inputs are not permitted"),
    ],
)
def test_an_invalid_retraining_schedule_is_refused(part: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        RetrainSchedule.model_validate(part)
