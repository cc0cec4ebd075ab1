"""Retrainings that were skipped in a row for too little feedback, and the alert about them.

They are recorded in `work`, since a task knows nothing of earlier runs. A run counts once, however often it is tried.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from gliclass_spark import atomic_files
from gliclass_spark.airflow.alerts import send_alert
from gliclass_spark.config.retraining import RetrainConfig

logger = logging.getLogger(__name__)

_FILE = "skipped_retrainings.json"


@dataclass(frozen=True)
class SkippedRetrainings:
    """The runs that were skipped since the last training. since: the time of the first one, in ISO 8601."""

    since: str
    run_ids: tuple[str, ...] = ()
    is_alerted: bool = False


def record_skip(config: RetrainConfig, run_id: str, missing: str) -> None:
    """Log what is missing, and record the run as skipped; the run that is the last of `alert_after_skips` sends it."""
    logger.info("%s: nothing is trained", missing)
    skipped = _read(config) or SkippedRetrainings(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
    if run_id not in skipped.run_ids:
        skipped = replace(skipped, run_ids=(*skipped.run_ids, run_id))
    limit = config.airflow.alert_after_skips if config.airflow is not None else None
    if config.airflow is not None and limit is not None and len(skipped.run_ids) >= limit and not skipped.is_alerted:
        subject = f"{config.pipeline.name}: {len(skipped.run_ids)} retrainings in a row were skipped"
        send_alert(config.airflow.alerts, subject, f"since {skipped.since}: {missing}", logging.WARNING)
        skipped = replace(skipped, is_alerted=True)
    path = _path(config)
    path.parent.mkdir(parents=True, exist_ok=True)
    atomic_files.write_text(path, json.dumps(asdict(skipped)) + "\n")


def end_skips(config: RetrainConfig) -> None:
    """Forget the runs that were skipped: one has enough feedback."""
    _path(config).unlink(missing_ok=True)


def _read(config: RetrainConfig) -> SkippedRetrainings | None:
    path = _path(config)
    if not path.is_file():
        return None
    document = json.loads(path.read_text(encoding="utf-8"))
    return SkippedRetrainings(**{**document, "run_ids": tuple(document["run_ids"])})


def _path(config: RetrainConfig) -> Path:
    return Path(config.work) / _FILE
