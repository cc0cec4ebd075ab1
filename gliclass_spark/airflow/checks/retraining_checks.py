"""Checks of a retraining on an Airflow worker, without Spark and without torch: is there enough feedback?"""

from __future__ import annotations

import logging

import pyarrow.compute as pc
import pyarrow.parquet as pq
from airflow.sdk.exceptions import AirflowFailException

from gliclass_spark.airflow.alerts import send_alert
from gliclass_spark.airflow.operators.training_step import outcome_path, read_outcome
from gliclass_spark.airflow.storage import storage_options
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.config.schedule import Alerts
from gliclass_spark.errors import GliclassSparkError
from gliclass_spark.runs.signal_counts import count_signals, signals_trained_on

logger = logging.getLogger(__name__)


def plan(file: str) -> bool:
    """Return whether there are at least `min_decisions` signals, and `min_new_signals` new ones.

    Fails the task if the feedback can't be read.
    """
    try:
        config = RetrainConfig.from_yaml(file)
        signals = count_signals(config.pipeline, storage_options(config.pipeline))
    except GliclassSparkError as error:
        raise AirflowFailException(str(error)) from None
    return _reaches_min_decisions(signals, "signals", config) and _has_new_signals(signals, config)


def has_enough_decisions(file: str, run_id: str) -> bool:
    """Return whether the snapshot has at least `min_decisions` decisions to train on."""
    config = RetrainConfig.from_yaml(file)
    columns = ["target", "reward", "chosen", "held_out"]
    snapshot = outcome_path(file, run_id, "snapshot").parent
    rows = pq.read_table(snapshot / "feedback.parquet", columns=columns)
    judged, rewarded, chosen = (pc.is_valid(rows[name]) for name in ("target", "reward", "chosen"))
    usable = pc.and_(pc.invert(rows["held_out"]), pc.or_(judged, pc.and_(rewarded, chosen)))
    return _reaches_min_decisions(pc.sum(usable).as_py() or 0, "decisions with a verdict or reward", config)


def notify(file: str, run_id: str) -> None:
    """Send the gate's verdict, rule by rule, and whether the candidate was promoted."""
    config = RetrainConfig.from_yaml(file)
    gate, version = read_outcome(file, run_id, "gate"), read_outcome(file, run_id, "promote")["version"]
    result = "is the champion" if gate["promoted"] else "is refused, and stays the challenger"
    findings = sorted(gate["findings"], key=lambda finding: bool(finding["passed"]))
    lines = [
        f"{'passed' if finding['passed'] else 'FAILED'}: {finding['rule']}: {finding['message']}"
        for finding in findings
    ]
    alerts = config.airflow.alerts if config.airflow is not None else Alerts()
    subject = f"{config.pipeline.name}: version {version} of the model {config.model_name} {result}"
    page = outcome_path(file, run_id, "gate").with_suffix(".html")
    send_alert(alerts, subject, "\n".join([f"retraining {run_id}", *lines, f"report: {page}"]), logging.INFO)


def _has_new_signals(signals: int, config: RetrainConfig) -> bool:
    new = signals - signals_trained_on(config)
    reached = new >= config.min_new_signals
    consequence = "" if reached else f", {config.min_new_signals} are needed (min_new_signals): nothing is trained"
    logger.info("%s of the %s signals are new since the last retraining%s", new, signals, consequence)
    return reached


def _reaches_min_decisions(count: int, what: str, config: RetrainConfig) -> bool:
    reached = count >= config.min_decisions
    logger.info(
        "%s %s of pipeline %s, %s are needed%s",
        count,
        what,
        config.pipeline.name,
        config.min_decisions,
        ""
        if reached
        else ": nothing is trained; bring more feedback (gliclass-spark feedback), or lower min_decisions",
    )
    return reached
