"""Telling people: of a task that failed for good, of what a run's report warns of, of what a retraining came to."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from html import escape
from importlib.util import find_spec
from typing import TYPE_CHECKING

from gliclass_spark.config.schedule import Alerts
from gliclass_spark.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Context

logger = logging.getLogger(__name__)


def check(alerts: Alerts, source: str) -> None:
    """Raise ConfigError if what would send them is not installed."""
    for key, wanted, provider in (("slack", alerts.slack, "slack"), ("email", alerts.email, "smtp")):
        try:
            installed = find_spec(f"airflow.providers.{provider}") is not None
        except ModuleNotFoundError:
            installed = False
        if wanted and not installed:
            raise ConfigError(
                f"{source}: airflow.alerts.{key} needs apache-airflow-providers-{provider}; install it, or remove it"
            )


def tell(alerts: Alerts, subject: str, text: str, level: int = logging.ERROR) -> None:
    """Log it, and send it where the file says. Nothing of it is a template: it may hold documents' words."""
    logger.log(level, "%s: %s", subject, text)
    if alerts.email:
        from airflow.providers.smtp.hooks.smtp import SmtpHook

        with SmtpHook() as hook:
            hook.send_email_smtp(to=list(alerts.email), subject=subject, html_content=f"<pre>{escape(text)}</pre>")
    if alerts.slack:
        from airflow.providers.slack.hooks.slack import SlackHook

        # Slack's own escapes: else a document's "<!channel>" would call everybody.
        message = escape(f"{subject}\n{text}", quote=False)
        SlackHook().call("chat.postMessage", json={"channel": alerts.slack, "text": message})


@dataclass(frozen=True)
class OnFailure:
    """Airflow's callback for a task that has no attempt left."""

    alerts: Alerts

    def __call__(self, context: Context) -> None:
        task = context["ti"]
        why = context.get("exception") or "it left no message"
        tell(self.alerts, f"{task.dag_id}: {task.task_id} failed", f"run {task.run_id}: {why}")
