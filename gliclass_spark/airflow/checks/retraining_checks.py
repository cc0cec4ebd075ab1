"""Checks of a retraining on an Airflow worker, without Spark and without torch: is there enough feedback?"""

from __future__ import annotations

import logging

import pyarrow.compute as pc
import pyarrow.parquet as pq
from airflow.sdk.exceptions import AirflowFailException

from gliclass_spark.airflow.alerts import send_alert
from gliclass_spark.airflow.checks.skipped_retrainings import end_skips, record_skip
from gliclass_spark.airflow.operators.training_step import outcome_path, read_outcome
from gliclass_spark.airflow.storage import storage_options
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.config.schedule import Alerts
from gliclass_spark.errors import GliclassSparkError
from gliclass_spark.runs.freshness import last_success
from gliclass_spark.runs.history import recent_manifests
from gliclass_spark.runs.signal_counts import count_decisions, count_signals, decisions_checked, signals_trained_on

logger = logging.getLogger(__name__)


def plan(file: str, run_id: str, for_training: bool = False) -> bool:
    """Return whether the run has something to do: there are enough signals to train on, or to check the champion by.

    Enough to train on are `min_decisions` signals, of them `min_new_signals` new ones. for_training: these alone count.
    A skipped run is recorded. Fails the task if the feedback can't be read.
    """
    try:
        config = RetrainConfig.from_yaml(file)
        missing = _missing_signals(config)
        if missing is None or (not for_training and _champion_check_is_due(config)):
            return True
    except GliclassSparkError as error:
        raise AirflowFailException(str(error)) from None
    record_skip(config, run_id, missing)
    return False


def can_train(file: str, run_id: str) -> bool:
    """Return whether there are enough signals and decisions to train on, and the champion was not rolled back.

    A run that is skipped for too few of them is recorded; one with enough ends a row of skipped runs.
    """
    config = RetrainConfig.from_yaml(file)
    if read_outcome(file, run_id, "champion_check")["rolled_back"]:
        logger.info("the champion was rolled back: nothing is trained")
        return False
    missing = _missing_signals(config) or _missing_decisions(config, file, run_id)
    if missing is not None:
        record_skip(config, run_id, missing)
        return False
    end_skips(config)
    return True


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


def _missing_signals(config: RetrainConfig) -> str | None:
    """Return how many signals are needed for a training, and how many there are; None if they are enough."""
    signals = count_signals(config.pipeline, storage_options(config.pipeline))
    missing = _missing(signals, "signals", config)
    if missing is not None:
        return missing
    new = signals - signals_trained_on(config)
    counts = f"{new} of the {signals} signals are new since the last retraining"
    if new < config.min_new_signals:
        return f"{counts}, {config.min_new_signals} are needed (min_new_signals)"
    logger.info("%s", counts)
    return None


def _missing_decisions(config: RetrainConfig, file: str, run_id: str) -> str | None:
    """Return how many decisions to train on are needed, and how many the snapshot has; None if they are enough."""
    columns = ["target", "reward", "chosen", "held_out"]
    snapshot = outcome_path(file, run_id, "snapshot").parent
    rows = pq.read_table(snapshot / "feedback.parquet", columns=columns)
    judged, rewarded, chosen = (pc.is_valid(rows[name]) for name in ("target", "reward", "chosen"))
    usable = pc.and_(pc.invert(rows["held_out"]), pc.or_(judged, pc.and_(rewarded, chosen)))
    count = pc.sum(usable).as_py() or 0
    documents = snapshot / "documents.parquet"
    if documents.exists():
        held_out = pq.read_table(documents, columns=["held_out"])["held_out"]
        count += pc.sum(pc.invert(held_out)).as_py() or 0
    return _missing(count, "decisions with a verdict or reward", config)


def _missing(count: int, what: str, config: RetrainConfig) -> str | None:
    counts = f"{count} {what} of pipeline {config.pipeline.name}, {config.min_decisions} are needed"
    if count < config.min_decisions:
        return f"{counts} (min_decisions); bring more feedback (gliclass-spark feedback), or lower min_decisions"
    logger.info("%s", counts)
    return None


def _champion_check_is_due(config: RetrainConfig) -> bool:
    """Return whether the model that tagged last has decisions with feedback enough for a check, and for a new one."""
    options = storage_options(config.pipeline)
    tagged = last_success(recent_manifests(config.pipeline, options), "tag")
    if tagged is None or tagged.model_digest is None:
        return False
    counts, needed = count_decisions(config.pipeline, tagged.model_digest, options), config.rollback
    new = counts.decisions - decisions_checked(config, tagged.model_digest)
    is_due = min(counts.effective_sample_size, new) >= needed.min_effective_decisions
    if is_due:
        logger.info("%s decisions of the champion have new feedback: it is checked", new)
    return is_due
