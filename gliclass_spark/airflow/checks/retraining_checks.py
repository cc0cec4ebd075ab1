"""What Airflow's workers look at by themselves, without Spark and without torch: is there enough to learn from?"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pyarrow.compute as pc
import pyarrow.parquet as pq
from airflow.sdk.exceptions import AirflowFailException
from deltalake import DeltaTable

from gliclass_spark.airflow.alerts import tell
from gliclass_spark.airflow.operators.training_step import outcome, outcome_file
from gliclass_spark.airflow.storage import storage_options
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.config.schedule import Alerts
from gliclass_spark.errors import GliclassSparkError
from gliclass_spark.runs.delta_reader import delta_table, query, store_address

logger = logging.getLogger(__name__)


def plan(file: str) -> bool:
    """Whether there are as many signals as decisions are needed, and as many new ones, before anything is submitted.

    Fails the task if the feedback can't be read.
    """
    try:
        config = RetrainConfig.from_yaml(file)
        found = _signals(config)
    except GliclassSparkError as error:
        raise AirflowFailException(str(error)) from None
    return _reaches(found, "signals", config) and _new(found, config)


def enough(file: str, run_id: str) -> bool:
    """Whether so many of the snapshot's decisions are known as the training wants, before a GPU is taken."""
    config = RetrainConfig.from_yaml(file)
    columns = ["target", "reward", "chosen", "held_out"]
    snapshot = outcome_file(file, run_id, "snapshot").parent
    rows = pq.read_table(snapshot / "feedback.parquet", columns=columns)
    judged, rewarded, chosen = (pc.is_valid(rows[name]) for name in ("target", "reward", "chosen"))
    known = pc.and_(pc.invert(rows["held_out"]), pc.or_(judged, pc.and_(rewarded, chosen)))
    return _reaches(pc.sum(known).as_py() or 0, "decisions that are known to be right or wrong", config)


def notify(file: str, run_id: str) -> None:
    """Tell what the gate said of the candidate, rule by rule, and what became of it."""
    config = RetrainConfig.from_yaml(file)
    gate, version = outcome(file, run_id, "gate"), outcome(file, run_id, "promote")["version"]
    became = "is the champion" if gate["promoted"] else "is refused, and stays the challenger"
    findings = sorted(gate["findings"], key=lambda finding: bool(finding["passed"]))
    lines = [f"{'met' if each['passed'] else 'NOT MET'}: {each['rule']}: {each['said']}" for each in findings]
    alerts = config.airflow.alerts if config.airflow is not None else Alerts()
    subject = f"{config.pipeline.name}: version {version} of the model {config.model_name} {became}"
    page = outcome_file(file, run_id, "gate").with_suffix(".html")
    tell(alerts, subject, "\n".join([f"retraining {run_id}", *lines, f"more: {page}"]), logging.INFO)


def _signals(config: RetrainConfig) -> int:
    """How many signals there are about the label set that the pipeline asks now."""
    path, options = f"{config.pipeline.tables.rstrip('/')}/feedback", storage_options(config.pipeline)
    if not DeltaTable.is_deltatable(store_address(path), dict(options) if options else None):
        return 0
    asked = f"select count(*) as signals from t where label_set_hash = '{config.pipeline.label_set.hash}'"  # noqa: S608
    [row] = query(delta_table(path, storage_options=options), asked)
    return int(row["signals"])


def _new(found: int, config: RetrainConfig) -> bool:
    new = found - _learned_from(config)
    enough = new >= config.min_new_signals
    lack = "" if enough else f", {config.min_new_signals} are needed (min_new_signals): nothing is trained"
    logger.info("%s of the %s signals came in since the last retraining%s", new, found, lack)
    return enough


def _learned_from(config: RetrainConfig) -> int:
    """How many signals the last retraining had that came to its end, about the same label set."""
    had = [0]
    for ended in Path(config.work).glob("*/promote.json"):
        about = json.loads((ended.parent / "snapshot" / "snapshot.json").read_text(encoding="utf-8"))
        if about["label_set"] == json.loads(config.pipeline.label_set.canonical_json):
            had.append(about["counts"]["signals"])
    return max(had)


def _reaches(found: int, what: str, config: RetrainConfig) -> bool:
    reached = found >= config.min_decisions
    logger.info(
        "%s %s about pipeline %s, %s are needed%s",
        found,
        what,
        config.pipeline.name,
        config.min_decisions,
        ""
        if reached
        else ": nothing is trained; bring more feedback (gliclass-spark feedback), or lower min_decisions",
    )
    return reached
