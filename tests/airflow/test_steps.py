"""Pipeline tasks: the run's manifest decides about success, not spark-submit's exit code."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email import message_from_string
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from aiosmtpd.controller import Controller
from airflow.sdk.exceptions import AirflowException, AirflowFailException, ParamValidationError
from deltalake import write_deltalake
from slack_api import slack
from spark_submit_stand_in import fake_spark_submit
from written_runs import manifest, run_manifests, write_runs

from gliclass_spark.airflow import run_pages
from gliclass_spark.airflow.alerts import send_alert
from gliclass_spark.airflow.checks import run_checks
from gliclass_spark.airflow.dags.pipeline_dag import pipeline_dag
from gliclass_spark.airflow.operators.spark_step import UNTIL, SparkStep
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.config.schedule import Alerts
from gliclass_spark.runs.manifest import VersionRange

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    document = {
        "name": "mail",
        "source": {"path": "mail", "id": "id", "text": "body"},
        "label_set": ["spam"],
        "tables": "lake",
        "airflow": {"cron": "@daily"},
    }
    path = tmp_path / "mail.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def step(file: Path, name: str) -> SparkStep:
    task = pipeline_dag(file, Pipeline.from_yaml(file)).get_task(name)
    task.run_id = "run-1"
    return task


def test_success_without_a_manifest_is_a_failure(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_spark_submit(tmp_path, monkeypatch, 0)
    with pytest.raises(AirflowException, match=r"lake/runs: pipeline .mail. has not run yet.*; spark-submit: success"):
        step(file, "tag").execute({})
    write_runs(tmp_path, run_manifests(2))
    with pytest.raises(AirflowException, match=r"there is no run 'run-1'.*; spark-submit: success"):
        step(file, "tag").execute({})


@pytest.mark.parametrize("status", ["failed", "running"])
def test_success_with_an_unsuccessful_manifest_is_a_failure(
    status: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_spark_submit(tmp_path, monkeypatch, 0)
    write_runs(tmp_path, [manifest("tag", "run-1", status)])
    with pytest.raises(AirflowException, match=f"expected status 'succeeded', found '{status}'"):
        step(file, "tag").execute({})


def test_a_failure_with_a_complete_manifest_is_a_success(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_runs(tmp_path, [replace(manifest("filter", "run-9"), pipeline="another")])  # in the same folder
    fake_spark_submit(tmp_path, monkeypatch, 1, "run_manifests(1)")
    step(file, "filter").execute({})
    assert "spark-submit reported a failure, but the manifest of filter is complete" in capsys.readouterr().out


def test_a_failure_without_a_manifest_is_a_failure(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_spark_submit(tmp_path, monkeypatch, 1)
    write_runs(tmp_path, run_manifests(1)[:1])
    with pytest.raises(AirflowException, match=r"expected a manifest of filter, found none.*Error code is: 1"):
        step(file, "filter").execute({})


def test_a_failed_attempt_after_a_successful_one_is_a_failure(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_runs(tmp_path, run_manifests(1))
    failure = "[manifest('tag', 'run-1', 'failed', sequence=2, message='the disk is full')]"
    fake_spark_submit(tmp_path, monkeypatch, 0, failure)
    with pytest.raises(AirflowException, match="the disk is full"):
        step(file, "tag").execute({})


def new_settings(file: Path, **parts: Any) -> None:
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **parts}))


PARAMETERS: list[tuple[str, dict[str, Any], list[str]]] = [
    ("tag", {"full": False, "retag": "changed"}, ["--retag", "changed"]),
    ("tag", {"full": True, "retag": "all"}, ["--retag", "all", "--full"]),
    ("filter", {"full": True, "retag": "changed"}, ["--full"]),
    ("filter", {"full": False, "retag": "all"}, ["--full"]),
    ("route", {"full": False, "retag": "none"}, []),
]


@pytest.mark.parametrize(("job", "parameters", "options"), PARAMETERS)
def test_the_parameters_of_a_dag_run_are_options_of_its_jobs(
    job: str,
    parameters: dict[str, Any],
    options: list[str],
    file: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_spark_submit(tmp_path, monkeypatch, 0, "run_manifests(1)")
    task = step(file, job)
    task.execute({"params": parameters})
    submitted = (tmp_path / "arguments").read_text().splitlines()
    assert submitted[submitted.index("--run-id") + 2 :] == ["--until", UNTIL, *options][2 * (job != "tag") :]


def test_a_dag_accepts_only_known_parameters(file: Path) -> None:
    dag = pipeline_dag(file, Pipeline.from_yaml(file))
    assert dag.params.dump() == {"full": False, "retag": "changed"}
    for name, value in (("full", "yes"), ("retag", "some")):
        with pytest.raises(ParamValidationError):
            dag.params.get_param(name).resolve(value)


CHANGED_SETTINGS: dict[str, tuple[str, dict[str, Any]]] = {
    "tag's label set": ("tag", {"label_set": ["ham"]}),
    "tag's model": ("tag", {"model": "./another"}),
    "tag's exploration": ("tag", {"exploration": 0.5}),
    "filter's columns": ("filter", {"source": {"path": "mail", "id": "id", "text": "body", "columns": []}}),
    "filter's rules": ("filter", {"reject": [{"reason": "long", "when": "token_count > 9"}]}),
    "route's rules": ("route", {"routes": [{"route": "long", "when": "token_count > 9"}]}),
}


@pytest.mark.parametrize(("job", "parts"), CHANGED_SETTINGS.values(), ids=CHANGED_SETTINGS)
@pytest.mark.parametrize("code", [0, 2])
def test_an_earlier_success_does_not_count_after_a_change_of_settings(
    code: int, job: str, parts: dict[str, Any], file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_spark_submit(tmp_path, monkeypatch, code)
    write_runs(tmp_path, run_manifests(1))
    new_settings(file, **parts)
    with pytest.raises(AirflowException, match=f"run 'run-1', {job}: its success had another"):
        step(file, job).execute({})
    with pytest.raises(AirflowFailException, match="its success had another"):
        run_checks.verify(str(file), "run-1")


def test_a_change_of_rules_leaves_the_tags_as_they_are(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_spark_submit(tmp_path, monkeypatch, 0)
    write_runs(tmp_path, run_manifests(1))
    new_settings(file, reject=[{"reason": "long", "when": "token_count > 9"}])
    step(file, "tag").execute({})


@pytest.mark.parametrize("job", ["tag", "filter", "route"])
def test_an_earlier_success_counts_only_if_spark_submit_succeeds(
    job: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_runs(tmp_path, run_manifests(1))
    fake_spark_submit(tmp_path, monkeypatch, 2)
    with pytest.raises(
        AirflowException, match=rf"the manifest of {job} is complete, but .* earlier attempt.*code is: 2"
    ):
        step(file, job).execute({})
    fake_spark_submit(tmp_path, monkeypatch, 0)  # the job itself saw that its work was done
    step(file, job).execute({})
    with pytest.raises(AirflowException, match="is that of an earlier attempt; spark-submit: success"):
        step(file, job).execute({"params": {"full": True}})


def test_a_run_is_verified_by_its_counts(file: Path, tmp_path: Path) -> None:
    write_runs(tmp_path, run_manifests(1))
    run_checks.verify(str(file), "run-1")
    tagged, filtered, routed = run_manifests(2)
    write_runs(tmp_path, [tagged, manifest("filter", "run-2", rows_in=3, kept=1, quarantined=0), routed])
    with pytest.raises(AirflowFailException, match=r"expected kept \+ rejected \+ quarantined = 3 rows in, found 1"):
        run_checks.verify(str(file), "run-2")
    with pytest.raises(AirflowFailException, match="there is no run 'run-7'"):
        run_checks.verify(str(file), "run-7")
    assert filtered.kept == 2


_CHECK_MANIFESTS = """
import sys
import airflow.sdk  # which loads jinja2 itself
loaded_by_airflow = set(sys.modules)
from gliclass_spark.airflow.checks import run_checks
run_checks.verify(sys.argv[1], "run-1")
print(*sorted(set(sys.modules) - loaded_by_airflow))
"""


def test_a_check_of_manifests_loads_neither_rendering_nor_models(file: Path, tmp_path: Path) -> None:
    write_runs(tmp_path, run_manifests(1))
    command = [sys.executable, "-c", _CHECK_MANIFESTS, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    modules = done.stdout.splitlines()[-1].split()
    assert "gliclass_spark.runs.history" in modules
    heavy = {"matplotlib", "jinja2", "pandas", "torch", "transformers", "pyspark", "mlflow"}
    assert [name for name in modules if name.split(".")[0] in heavy or name.startswith("gliclass_spark.report")] == []


def test_a_failed_run_has_a_report_beside_the_tables(file: Path, tmp_path: Path) -> None:
    write_runs(tmp_path, [manifest("tag", "run-1", "failed", message="the disk is full")])
    with pytest.raises(AirflowFailException, match="the disk is full"):
        run_checks.report(str(file), "run-1")
    page = run_pages.read(Pipeline.from_yaml(file), "run-1")
    assert page is not None
    assert "The tag job failed" in page


def test_each_run_has_a_report_of_its_own_in_the_folder(file: Path) -> None:
    pipeline = Pipeline.from_yaml(file)
    run_ids = ["scheduled__2026-11-23T02:00:00+00:00", "scheduled__2026-11-23T02-00-00-00-00", "../../../etc/passwd"]
    for run_id in run_ids:
        page = Path(run_pages.write(pipeline, run_id, f"the page of {run_id}"))
        assert page.parent == Path(pipeline.tables) / "reports"
    assert [run_pages.read(pipeline, run_id) for run_id in run_ids] == [f"the page of {run_id}" for run_id in run_ids]
    assert run_pages.read(pipeline, "none") is None


def write_source(folder: Path, **columns: list[Any]) -> None:
    write_deltalake(str(folder / "mail"), pa.table(columns), mode="append")


def test_an_unreadable_source_fails_the_plan(file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    now = datetime.now(UTC)
    with pytest.raises(AirflowFailException, match=r"there is no Delta table at .*mail"):
        run_checks.plan(str(file), now)
    write_source(tmp_path, id=["a", "b"], body=["text", "text"])
    between = datetime.now(UTC)
    write_source(tmp_path, id=["c"], body=["text"])
    with caplog.at_level("INFO"):
        assert run_checks.plan(str(file), between)
        assert run_checks.plan(str(file), datetime.now(UTC) + timedelta(seconds=1))
    assert "version 0 of 1, 2 rows" in caplog.text
    assert "version 1 of 1, 3 rows" in caplog.text
    file.write_text(file.read_text().replace("text: body", "text: content"))
    with pytest.raises(AirflowFailException, match=r"has no column 'content' \(source.text\); it has id, body"):
        run_checks.plan(str(file), now)
    file.write_text("name: mail\n")
    with pytest.raises(AirflowFailException, match="'source' is missing"):
        run_checks.plan(str(file), now)


def test_a_run_due_before_the_sources_first_version_is_skipped(
    file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_source(tmp_path, id=["a"], body=["text"])
    write_source(tmp_path, id=["b"], body=["text"])
    # Time travel uses the modification times of the commit files.
    commits = sorted((tmp_path / "mail" / "_delta_log").glob("*.json"))
    for commit, day in zip(commits, (1, 3), strict=True):
        at = datetime(2026, 11, day, tzinfo=UTC).timestamp()
        os.utime(commit, (at, at))
    with caplog.at_level("INFO"):
        assert run_checks.plan(str(file), datetime(2026, 11, 2, tzinfo=UTC))
        assert "version 0 of 1, 1 rows" in caplog.text
        assert not run_checks.plan(str(file), datetime(2026, 10, 31, tzinfo=UTC))
        assert "there is nothing to read yet" in caplog.text


def test_openlineage_gets_the_tables_and_the_digests(file: Path, tmp_path: Path) -> None:
    tagged = manifest(
        "tag",
        "run-1",
        inputs={"source": VersionRange("id", None, 4)},
        outputs={"tags": VersionRange("id", None, 9)},
        model_digest="d1",
        rules_hash="r1",
    )
    write_runs(tmp_path, [tagged])
    lineage = step(file, "tag").get_openlineage_facets_on_complete(None)
    [read], [written] = lineage.inputs, lineage.outputs
    assert (read.namespace, read.name, read.facets["version"].datasetVersion) == ("file", str(tmp_path / "mail"), "4")
    assert (written.name, written.facets["version"].datasetVersion) == (str(tmp_path / "lake" / "tags"), "9")
    facet = lineage.run_facets["gliclass"]
    assert (facet.run_id, facet.model_digest, facet.rules_hash) == ("run-1", "d1", "r1")


class Inbox:
    """A mail server's handler that stores messages."""

    def __init__(self) -> None:
        self.mails: list[str] = []

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self.mails.append(envelope.content.decode())
        return "250 OK"


def test_an_alert_is_mailed_with_document_text_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    inbox = Inbox()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        host, port = free.getsockname()
    server = Controller(inbox, hostname=host, port=port)
    server.start()
    try:
        extra = {"disable_ssl": True, "disable_tls": True, "from_email": "lake@example.com"}
        connection = {"conn_type": "smtp", "host": host, "port": port, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_SMTP_DEFAULT", json.dumps(connection))
        send_alert(
            Alerts(email=("data@example.com",)), "mail: run run-1", "Large drift: {{ 7 * 7 }} <script>x</script>"
        )
    finally:
        server.stop()
    [mail] = inbox.mails
    sent = message_from_string(mail)
    body = "".join(part.get_payload(decode=True).decode() for part in sent.walk() if not part.is_multipart())
    assert (sent["To"], sent["Subject"]) == ("data@example.com", "mail: run run-1")
    assert "Large drift: {{ 7 * 7 }} &lt;script&gt;x&lt;/script&gt;" in body


def test_an_alert_is_posted_to_slack_with_document_text_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    with slack({"ok": True}) as (url, requests):
        connection = {"conn_type": "slack", "password": "xoxb-token", "extra": {"base_url": url}}
        monkeypatch.setenv("AIRFLOW_CONN_SLACK_API_DEFAULT", json.dumps(connection))
        send_alert(Alerts(slack="#data"), "mail: run run-1", "Large drift: {{ 7 * 7 }} <!channel> & more")
    text = "mail: run run-1\nLarge drift: {{ 7 * 7 }} &lt;!channel&gt; &amp; more"
    assert requests == [("/api/chat.postMessage", "Bearer xoxb-token", {"channel": "#data", "text": text})]
