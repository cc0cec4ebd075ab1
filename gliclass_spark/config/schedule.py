"""The part `airflow:` of a file of conf/pipelines or conf/retrain: when it is run, with what, and who is told."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import croniter
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gliclass_spark.config.paths import ConfigPath

_TABLE = re.compile(r"[a-z0-9][a-z0-9_-]*\.[A-Za-z_][A-Za-z0-9_]*")
Seconds = Annotated[int, Field(gt=0, strict=True)]
WEEKLY = "0 4 * * 0"
GPU_POOL = "gpu"


class Alerts(BaseModel):
    """Who is told when a run fails, or when its report warns. What is told is always logged as well.

    email: addresses, by the connection `smtp_default`. slack: a channel, by the connection `slack_api_default`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    email: tuple[str, ...] = ()
    slack: str | None = None


class Timing(BaseModel):
    """When and how Airflow runs something.

    cron: in `timezone`. after: tables of pipelines, as `pipeline.table`: a run starts when all of them were
    written. With both, it starts for either reason; with neither, when somebody starts it. start: the first
    day. retries, of each job, wait twice as long each time, from `retry_delay_s` on. timeout_s: of one attempt.
    pool: the Airflow pool that limits how many jobs with a model run at once. spark_conf: a file of conf/spark.
    connection: the Airflow connection that says where jobs are submitted to.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cron: str | None = None
    after: tuple[str, ...] = ()
    timezone: str = "UTC"
    start: date = date(2026, 1, 1)
    owner: str = "data-platform"
    tags: tuple[str, ...] = ()
    retries: Annotated[int, Field(ge=0, strict=True)] = 3
    retry_delay_s: Seconds = 60
    timeout_s: Seconds = 6 * 3600
    pool: str = "default_pool"
    spark_conf: ConfigPath | None = None
    connection: str = "spark_default"
    alerts: Alerts = Alerts()

    @field_validator("cron")
    @classmethod
    def _parses(cls, value: str | None) -> str | None:
        if value is not None and not croniter.is_valid(value):
            raise ValueError(f"{value!r} is no cron; write minute, hour, day, month and weekday, as in '0 2 * * *'")
        return value

    @field_validator("timezone")
    @classmethod
    def _known(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"{value!r} is no time zone; write one like 'Europe/Vienna'") from None
        return value

    @field_validator("after")
    @classmethod
    def _tables(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not _TABLE.fullmatch(name):
                raise ValueError(f"{name!r} is no table of a pipeline; write pipeline.table, as in 'corpus.kept'")
        return value


class Schedule(Timing):
    """When and how Airflow runs a pipeline.

    catchup: whether nights between `start` and now that Airflow missed are run one by one, each over the
    source as it was then. storage: the Airflow connection whose extra holds what delta-rs wants to know to
    read the tables, keys for a store say.
    """

    catchup: bool = False
    storage: str | None = None


class RetrainSchedule(Timing):
    """When and how Airflow retrains a pipeline's model: every Sunday, unless `cron` or `after` say otherwise.

    pool: takes one slot for each step that trains or judges. python: the interpreter of the environment that
    trains; Airflow's own unless it says otherwise. processes: how many GPUs of the machine train together.
    """

    pool: str = GPU_POOL
    python: ConfigPath | None = None
    processes: Annotated[int, Field(ge=1, strict=True)] = 1

    @model_validator(mode="before")
    @classmethod
    def _weekly(cls, document: Any) -> Any:
        if isinstance(document, dict) and not {"cron", "after"} & document.keys():
            return {"cron": WEEKLY, **document}
        return document
