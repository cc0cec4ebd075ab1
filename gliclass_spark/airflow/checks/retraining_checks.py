"""Checks of a retraining on an Airflow worker, without Spark and without torch: is there enough feedback?"""

from __future__ import annotations

import logging

from airflow.sdk.exceptions import AirflowFailException

from gliclass_spark.airflow.alerts import send_alert
from gliclass_spark.airflow.checks.skipped_retrainings import end_skips, record_skip
from gliclass_spark.airflow.operators.training_step import outcome_path, read_outcome
from gliclass_spark.airflow.storage import storage_options
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.config.schedule import Alerts
from gliclass_spark.errors import GliclassSparkError
from gliclass_spark.runs.due.training_feedback import check_feedback, has_work

logger = logging.getLogger(__name__)


def plan(file: str, run_id: str) -> bool:
    """Return whether the run has something to do: there are enough signals to train on, or to check the champion by.

    A run that is skipped is recorded. Fails the task if the feedback can't be read.
    """
    try:
        config = RetrainConfig.from_yaml(file)
        is_worth_it, counts = has_work(config, run_id, storage_options(config.pipeline))
    except GliclassSparkError as error:
        raise AirflowFailException(str(error)) from None
    if is_worth_it:
        logger.info("%s", counts)
    else:
        record_skip(config, run_id, counts)
    return is_worth_it


def can_train(file: str, run_id: str) -> bool:
    """Return whether there are enough signals and decisions to train on, and the champion was not rolled back.

    A run that trains nothing for too few of them is recorded as skipped; one with enough ends a row of skipped runs.
    """
    config = RetrainConfig.from_yaml(file)
    if read_outcome(file, run_id, "champion_check")["rolled_back"]:
        logger.info("the champion was rolled back: nothing is trained")
        return False
    check = check_feedback(config, run_id)
    if check.trains:
        logger.info("%s", check.message)
        end_skips(config)
    else:
        record_skip(config, run_id, check.message)
    return check.trains


def notify(file: str, run_id: str) -> None:
    """Send the gate's verdict, rule by rule, and whether the candidate was promoted."""
    config = RetrainConfig.from_yaml(file)
    gate, promotion = read_outcome(file, run_id, "gate"), read_outcome(file, run_id, "promote")
    version, waits = promotion["version"], promotion.get("waits_for_shadow", False)
    result = "is the champion" if gate["promoted"] else "is refused, and stays the challenger"
    result = f"has passed, and waits for gliclass-spark shadow {config.pipeline_file}" if waits else result
    findings = sorted(gate["findings"], key=lambda finding: bool(finding["passed"]))
    lines = [
        f"{'passed' if finding['passed'] else 'FAILED'}: {finding['rule']}: {finding['message']}"
        for finding in findings
    ]
    alerts = config.airflow.alerts if config.airflow is not None else Alerts()
    subject = f"{config.pipeline.name}: version {version} of the model {config.model_name} {result}"
    page = outcome_path(file, run_id, "gate").with_suffix(".html")
    send_alert(alerts, subject, "\n".join([f"retraining {run_id}", *lines, f"report: {page}"]), logging.INFO)
