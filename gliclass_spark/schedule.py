"""The part `airflow:` of a pipeline's file: when Airflow runs it, with what, and whom it tells."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import croniter
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gliclass_spark.addresses import ConfigPath

_TABLE = re.compile(r"[a-z0-9][a-z0-9_-]*\.[A-Za-z_][A-Za-z0-9_]*")
Seconds = Annotated[int, Field(gt=0, strict=True)]


class Alerts(BaseModel):
    """Who is told when a run fails, or when its report warns. What is told is always logged as well.

    email: addresses, by the connection `smtp_default`. slack: a channel, by the connection `slack_api_default`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    email: tuple[str, ...] = ()
    slack: str | None = None


class Schedule(BaseModel):
    """When and how Airflow runs a pipeline.

    cron: in `timezone`. after: tables of other pipelines, as `pipeline.table`: a run starts when all of
    them were written. With neither, a run starts when somebody starts it. start: the first night;
    catchup: whether nights between it and now that Airflow missed are run one by one, each over the source as it
    was then. retries, of each job, wait twice as long each time, from `retry_delay_s` on. timeout_s: of one
    attempt. pool: the Airflow pool that limits how many `tag` jobs run at once. spark_conf: a file of
    conf/spark. connection: the Airflow connection that says where jobs are submitted to. storage: the one
    whose extra holds what delta-rs wants to know to read the tables, keys for a store say.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cron: str | None = None
    after: tuple[str, ...] = ()
    timezone: str = "UTC"
    start: date = date(2026, 1, 1)
    catchup: bool = False
    owner: str = "data-platform"
    tags: tuple[str, ...] = ()
    retries: Annotated[int, Field(ge=0, strict=True)] = 3
    retry_delay_s: Seconds = 60
    timeout_s: Seconds = 6 * 3600
    pool: str = "default_pool"
    spark_conf: ConfigPath | None = None
    connection: str = "spark_default"
    storage: str | None = None
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

    @model_validator(mode="after")
    def _one_reason_to_start(self) -> Schedule:
        if self.cron is not None and self.after:
            raise ValueError("has both 'cron' and 'after'; remove one")
        return self
