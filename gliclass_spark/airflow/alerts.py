"""Alerts: failed tasks, report warnings and retraining verdicts, by e-mail and Slack."""

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


def check_providers(alerts: Alerts, source: str) -> None:
    """Raise ConfigError if the provider that would send the alerts is not installed."""
    for key, recipients, provider in (("slack", alerts.slack, "slack"), ("email", alerts.email, "smtp")):
        try:
            installed = find_spec(f"airflow.providers.{provider}") is not None
        except ModuleNotFoundError:
            installed = False
        if recipients and not installed:
            raise ConfigError(
                f"{source}: airflow.alerts.{key} needs apache-airflow-providers-{provider}; install it, or remove it"
            )


def send_alert(alerts: Alerts, subject: str, text: str, level: int = logging.ERROR) -> None:
    """Log the message and send it to the recipients. It is never a template: it may quote documents."""
    logger.log(level, "%s: %s", subject, text)
    if alerts.email:
        from airflow.providers.smtp.hooks.smtp import SmtpHook

        with SmtpHook() as hook:
            hook.send_email_smtp(to=list(alerts.email), subject=subject, html_content=f"<pre>{escape(text)}</pre>")
    if alerts.slack:
        from airflow.providers.slack.hooks.slack import SlackHook

        # Slack's escapes: else a document's "<!channel>" would notify everybody.
        message = escape(f"{subject}\n{text}", quote=False)
        SlackHook().call("chat.postMessage", json={"channel": alerts.slack, "text": message})


@dataclass(frozen=True)
class OnFailure:
    """Airflow callback for a task that failed with no retry left."""

    alerts: Alerts

    def __call__(self, context: Context) -> None:
        task = context["ti"]
        reason = context.get("exception") or "no message"
        send_alert(self.alerts, f"{task.dag_id}: {task.task_id} failed", f"run {task.run_id}: {reason}")
