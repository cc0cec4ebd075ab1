"""Schedules: the section `airflow:` of pipelines and retrainings, with when Airflow runs them and who is alerted."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import CroniterBadDateError, croniter
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from gliclass_spark.config.paths import ConfigPath

_TABLE = re.compile(r"[a-z0-9][a-z0-9_-]*\.[A-Za-z_][A-Za-z0-9_]*")
# Limits within what Airflow's classes, its scheduler's arithmetic and its database's columns accept: a value beyond
# them fails there without naming the file, and some of them for all DAGs.
Seconds = Annotated[int, Field(gt=0, le=366 * 24 * 3600, strict=True)]
AirflowName = Annotated[str, Field(min_length=1, max_length=250)]
AirflowTag = Annotated[str, Field(min_length=1, max_length=100)]
FirstDay = Annotated[date, Field(ge=date(1970, 1, 1), le=date(2999, 12, 31))]
WEEKLY = "0 4 * * 0"
GPU_POOL = "gpu"


class Alerts(BaseModel):
    """Who is alerted when a run fails, or when its report has warnings. Alerts are always logged as well."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    email: tuple[str, ...] = ()
    """Mail addresses, through the connection `smtp_default`."""
    slack: str | None = None
    """A channel, through the connection `slack_api_default`."""


class Timing(BaseModel):
    """When and how Airflow runs something. Without `cron` and `after`, it is started by hand."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    cron: str | None = None
    """Minute, hour, day, month and weekday, in `timezone`. With `after` as well, either starts a run."""
    after: tuple[str, ...] = ()
    """Tables of pipelines, as `pipeline.table`: a run starts when all of them were written."""
    timezone: str = "UTC"
    """The time zone of `cron`."""
    start: FirstDay = date(2026, 1, 1)
    """The first day."""
    owner: AirflowName = "data-platform"
    """The owner that Airflow shows."""
    tags: tuple[AirflowTag, ...] = ()
    """Tags in Airflow's list of DAGs."""
    retries: Annotated[int, Field(ge=0, le=1000, strict=True)] = 3
    """Retries of each job, with exponential backoff."""
    retry_delay_s: Seconds = 60
    """The first wait, in seconds."""
    timeout_s: Seconds = 6 * 3600
    """The time limit of one attempt, in seconds."""
    pool: AirflowName = "default_pool"
    """The Airflow pool that limits concurrent jobs with a model."""
    spark_conf: ConfigPath | None = None
    """A file of conf/spark, with settings beyond the connection's."""
    connection: AirflowName = "spark_default"
    """The Airflow connection of the cluster that jobs are submitted to."""
    alerts: Alerts = Alerts()
    """Who is alerted."""

    @field_validator("cron")
    @classmethod
    def _is_cron(cls, value: str | None) -> str | None:
        if value is not None and not croniter.is_valid(value):
            raise ValueError(f"{value!r} is no cron; write minute, hour, day, month and weekday, as in '0 2 * * *'")
        if value is not None and not _fires(value):
            raise ValueError(f"{value!r} names no day of this time; write one that comes again and again")
        return value

    @field_validator("timezone")
    @classmethod
    def _is_time_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError(f"{value!r} is no time zone; write one like 'Europe/Vienna'") from None
        return value

    @field_validator("after")
    @classmethod
    def _are_tables(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not _TABLE.fullmatch(name):
                raise ValueError(f"{name!r} is no table of a pipeline; write pipeline.table, as in 'corpus.kept'")
        return value


class Schedule(Timing):
    """When and how Airflow runs a pipeline."""

    catchup: bool = False
    """Whether Airflow backfills the scheduled runs between `start` and now, each over the source as of its date."""
    shadow: bool = False
    """Whether a task `shadow` tags with the challenger beside the champion, once there is one, for the report."""
    storage: AirflowName | None = None
    """The Airflow connection whose extra holds delta-rs's storage options for the tables, such as keys."""


class RetrainSchedule(Timing):
    """When and how Airflow retrains a pipeline's model: every Sunday, unless `cron` or `after` is set."""

    pool: AirflowName = GPU_POOL
    """The Airflow pool; each step that trains or evaluates takes one slot."""
    python: ConfigPath | None = None
    """The Python interpreter of the training environment. Without it, Airflow's own."""
    processes: Annotated[int, Field(ge=1, strict=True)] = 1
    """Training processes on the machine, one per GPU."""
    alert_after_skips: Annotated[int, Field(ge=1, strict=True)] | None = 4
    """Runs in a row that are skipped with too few signals before one alert says what is missing. null: none does."""

    @model_validator(mode="before")
    @classmethod
    def _weekly_by_default(cls, document: Any) -> Any:
        if isinstance(document, dict) and not {"cron", "after"} & document.keys():
            return {"cron": WEEKLY, **document}
        return document


def _fires(cron: str) -> bool:
    """Return whether the cron expression has a time before and after now: without, Airflow's scheduler fails."""
    try:
        croniter(cron, datetime.now(UTC)).get_prev()
        croniter(cron, datetime.now(UTC)).get_next()
    except CroniterBadDateError:
        return False
    return True
