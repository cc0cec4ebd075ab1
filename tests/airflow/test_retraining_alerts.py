"""Alerts of a retraining: harm by the champion, skipped runs, the gate's verdict."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowSkipException
from deltalake import write_deltalake
from retraining_files import RUN, write_pipeline, write_retraining
from retraining_tasks import Events, feedback_of, stand_in, write_check, write_snapshot
from slack_api import slack

from gliclass_spark.airflow.checks import retraining_checks
from gliclass_spark.airflow.operators import RetrainOperator
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.config.retraining import RetrainConfig


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
    retraining_file = write_retraining(tmp_path, airflow=ALERTED, min_decisions=1)
    folder = RetrainConfig.from_yaml(retraining_file).run_folder(RUN)
    label_set = Pipeline.from_yaml(tmp_path / "mail.yaml").label_set
    write_deltalake(str(tmp_path / "lake" / "feedback"), feedback_of([label_set.hash] * 3))
    (folder / "snapshot").mkdir(parents=True)
    write_snapshot(folder, [("judged", "a", "spam", 1, None, None, None, None, False)], label_set)
    write_check(folder, **facts)
    task, outlet_events = stand_in(retraining_file, "", "champion_check"), Events()
    task.execute({"outlet_events": outlet_events})
    assert list(itertools.chain(*outlet_events.values())) == events
    assert [message["text"].splitlines() for _, _, message in slack_messages] == ([lines] if lines else [])
    assert retraining_checks.can_train(str(retraining_file), RUN) == (not facts.get("rolled_back"))
    # The whole retraining in one task: it is done where the champion was rolled back, without a promotion.
    slack_messages.clear()
    operator = RetrainOperator(
        task_id="retrain", config_file=str(retraining_file), run_id=RUN, application=task.application
    )
    if facts.get("rolled_back"):
        operator.execute({})
        assert len(slack_messages) == 1
    else:
        with pytest.raises(AirflowException, match=r"promote wrote no promote\.json"):
            operator.execute({})


def test_retrainings_that_are_skipped_in_a_row_are_sent_once(
    tmp_path: Path, slack_messages: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    write_pipeline(tmp_path)
    retraining_file = write_retraining(tmp_path, airflow={**ALERTED, "alert_after_skips": 3})
    current = Pipeline.from_yaml(tmp_path / "mail.yaml").label_set.hash
    write_deltalake(str(tmp_path / "lake" / "feedback"), feedback_of([current, current]))

    def skip(run: str) -> None:
        with pytest.raises(AirflowSkipException, match="there is too little feedback for a retraining"):
            RetrainOperator(task_id="retrain", config_file=str(retraining_file), run_id=run).execute({})

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
    folder = RetrainConfig.from_yaml(retraining_file).run_folder("week 5")
    (folder / "snapshot").mkdir(parents=True)
    write_check(folder)
    write_deltalake(str(tmp_path / "lake" / "feedback"), feedback_of([current]), mode="append")
    rows = [(f"{number}", "a", "spam", 1, None, None, None, None, False) for number in range(3)]
    write_snapshot(folder, rows, Pipeline.from_yaml(tmp_path / "mail.yaml").label_set)
    assert retraining_checks.plan(str(retraining_file), "week 5")
    assert retraining_checks.can_train(str(retraining_file), "week 5")
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
    retraining_file = write_retraining(tmp_path, airflow={"alerts": {"slack": "#mail"}})
    run_folder = RetrainConfig.from_yaml(retraining_file).run_folder(RUN)
    run_folder.mkdir(parents=True)
    (run_folder / "gate.json").write_text(json.dumps({"promoted": promoted, "findings": FINDINGS}))
    (run_folder / "promote.json").write_text(json.dumps({"version": 7}))
    with slack({"ok": True}) as (url, requests), caplog.at_level("INFO"):
        connection = {"conn_type": "slack", "password": "xoxb-token", "extra": {"base_url": url}}
        monkeypatch.setenv("AIRFLOW_CONN_SLACK_API_DEFAULT", json.dumps(connection))
        retraining_checks.notify(str(retraining_file), RUN)
    [(_, _, message)] = requests
    assert message["text"].splitlines() == [
        f"mail: version 7 of the model mail {result}",
        f"retraining {RUN}",
        "FAILED: max_slowdown: takes 2.00 times the champion's time, at most 1.50",
        "passed: min_f1_gain: macro-F1 on golden: 0.800 -&gt; 0.810",
        f"report: {run_folder / 'gate.html'}",
    ]
    assert f"version 7 of the model mail {result}" in caplog.text
