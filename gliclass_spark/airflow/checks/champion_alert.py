"""The alert about a champion that does harm by feedback on its own decisions."""

from __future__ import annotations

from gliclass_spark.airflow.alerts import send_alert
from gliclass_spark.airflow.operators.training_step import read_outcome
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.config.schedule import Alerts


def alert_harm(file: str, run_id: str) -> None:
    """Send the outcome of the champion check if it has found harm; do nothing otherwise."""
    config, check = RetrainConfig.from_yaml(file), read_outcome(file, run_id, "champion_check")
    if not check["harm"]:
        return
    model = f"version {check['version']} of the model {config.model_name}"
    result, advice = (
        (
            f"was rolled back to version {check['previous']}",
            f"gliclass-spark promote {config.model_name} {check['version']} undoes it; nothing was trained",
        )
        if check["rolled_back"]
        else ("does harm, and was not rolled back", f"gliclass-spark rollback {config.model_name}")
    )
    alerts = config.airflow.alerts if config.airflow is not None else Alerts()
    subject = f"{config.pipeline.name}: {model} {result}"
    send_alert(alerts, subject, "\n".join([f"retraining {run_id}", check["message"], advice]))
