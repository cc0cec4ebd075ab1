"""The date of a run: one for all its jobs and attempts."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any, cast

import pytest

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.runs.manifest import Manifest
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun
from gliclass_spark.spark.jobs.run_date import date_settings


def run(when: str, until: datetime | None = None) -> PipelineRun:
    document = {"name": "mail", "source": {"path": "/mail", "id": "id", "text": "body"}, "label_set": ["spam"]}
    reject = [{"reason": "old", "when": when}]
    pipeline = Pipeline.model_validate({**document, "tables": "/lake", "reject": reject})
    return PipelineRun(cast(Any, None), pipeline, "mine", until=until)


def claim(run_id: str, started_at: datetime) -> Manifest:
    others: dict[str, Any] = dict.fromkeys(("source", "label_set", "label_set_hash", "rules_hash", "settings_hash"), "")
    times: dict[str, Any] = {"started_at": started_at, "finished_at": started_at}
    return Manifest(
        run_id=run_id, pipeline="mail", job="tag", status="running", sequence=1, model="embedded", **times, **others
    )


CLAIMS = [
    claim("mine", datetime(2026, 1, 31, 0, 1, tzinfo=UTC)),
    claim("mine", datetime(2026, 1, 30, 23, 59, tzinfo=UTC)),
    claim("other", datetime(2026, 1, 1, tzinfo=UTC)),
]


def test_it_is_the_day_of_the_first_claim_of_any_job_or_attempt() -> None:
    assert date_settings(run("run_date > tagged_at"), CLAIMS) == {"run_date": date(2026, 1, 30)}


def test_before_any_claim_it_is_today() -> None:
    before = datetime.now(UTC).date()
    assert before <= date_settings(run("RUN_DATE is null"), [])["run_date"] <= datetime.now(UTC).date()


def test_a_date_that_the_run_was_given_decides() -> None:
    dated = replace(run("run_date is null", datetime(2026, 3, 1, tzinfo=UTC)), run_date=date(2026, 2, 14))
    assert date_settings(dated, CLAIMS) == {"run_date": date(2026, 2, 14)}


def test_a_time_that_the_run_reads_as_of_decides_in_utc() -> None:
    until = datetime(2026, 3, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))
    assert date_settings(run("run_date is null", until), CLAIMS) == {"run_date": date(2026, 2, 28)}


@pytest.mark.parametrize(
    "when",
    ["token_count < 3", "text = 'run_date'", "exists(labels, run_date -> run_date = 'spam')", "error.run_date > 1"],
)
def test_it_is_no_setting_of_rules_that_do_not_use_it(when: str) -> None:
    assert date_settings(run(when), CLAIMS) == {}
