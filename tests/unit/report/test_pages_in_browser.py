"""The pages in a real browser: hostile document text is shown, never run or fetched."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest
from sample_retrainings import comparison, facts, verdict
from sample_runs import run_of, tag, usual_run

from gliclass_spark.labels import LabelSet
from gliclass_spark.report.run.run_report import render
from gliclass_spark.report.verdict import verdict_page
from gliclass_spark.runs.outcomes import Sample, SampleDocument, outcomes

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on the PATH; apt-get install chromium")


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """Serve HTTP; yield its URL and the paths of all requests."""
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()
    server.server_close()


def hostile(address: str) -> str:
    run = "document.title = 'run'"
    return (
        f'<script>{run}</script></td></table></p></style></title><img src={address}/image onerror="{run}">'
        f'<svg onload="{run}"><iframe src={address}/frame></iframe><link rel=stylesheet href={address}/style>'
        f"<a href=\"javascript:{run}\" id=x style='background:url({address}/background)'>"
    )


def rendered_dom(html: str, folder: Path) -> str:
    """Return the DOM after scripts, if any, have run."""
    page = folder / "page.html"
    page.write_text(html, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"]
    command = [str(BROWSER), *flags, "--virtual-time-budget=3000", "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def test_the_browser_runs_what_is_not_escaped(tmp_path: Path) -> None:
    """Check that the other tests could fail."""
    with listening() as (address, requests):
        dom = rendered_dom(f"<title>untouched</title>{hostile(address)}", tmp_path)
    assert "<title>run</title>" in dom
    assert "/image" in requests


@pytest.mark.parametrize("kind", ["run", "retraining"])
def test_a_page_shows_hostile_documents_without_running_or_fetching_anything(kind: str, tmp_path: Path) -> None:
    with listening() as (address, requests):
        text = hostile(address)
        dom = rendered_dom(run_page(text) if kind == "run" else retraining_page(text), tmp_path)
    assert requests == []
    assert "<title>run</title>" not in dom
    assert "&lt;script&gt;document.title = 'run'&lt;/script&gt;" in dom
    assert [part for part in ("<script", "<img", "<iframe", "<link") if part in dom] == []


def run_page(text: str) -> str:
    tagged = tag(0, {text: 3}, errors={text: 5}, label_set=LabelSet.of(text[:100]))
    manifests = [
        replace(manifest, source=text, message=text) for manifest in run_of(tagged, {text: 80}, {"complaints": 400})
    ]
    return render(
        manifests,
        usual_run(0),
        [Sample(outcome, [SampleDocument(text, text, {text: 0.5}, text)]) for outcome in outcomes(manifests, text)],
    )


def retraining_page(text: str) -> str:
    refusal = verdict(comparison(text, {text: 0.5}, {text: 0.25}), failed="min_f1_gain")
    refusal["findings"] = [{"rule": text, "passed": False, "message": text}]
    return verdict_page(facts(model=text, run_id=text, verdict=refusal))
