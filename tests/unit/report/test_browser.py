"""The pages in a real browser: what documents hold is shown, and nothing of it is run or fetched."""

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
from nights import decided, ordinary, tag
from retrainings import comparison, facts, verdict

from gliclass_spark.labels import LabelSet
from gliclass_spark.report import Sample, SampleDocument, render
from gliclass_spark.report.verdict import verdict_page
from gliclass_spark.runs import outcomes

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="there is no Chromium on the PATH; apt-get install chromium")


@contextmanager
def listening() -> Iterator[tuple[str, list[str]]]:
    """An address, and what was asked of it."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


def hostile(address: str) -> str:
    run = "document.title = 'run'"
    return (
        f'<script>{run}</script></td></table></p></style></title><img src={address}/image onerror="{run}">'
        f'<svg onload="{run}"><iframe src={address}/frame></iframe><link rel=stylesheet href={address}/style>'
        f"<a href=\"javascript:{run}\" id=x style='background:url({address}/background)'>"
    )


def opened(html: str, folder: Path) -> str:
    """The document as it stands once its scripts, had it any, have run."""
    page = folder / "page.html"
    page.write_text(html, encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={folder}/profile"]
    command = [str(BROWSER), *flags, "--virtual-time-budget=3000", "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def test_the_browser_runs_what_is_not_escaped(tmp_path: Path) -> None:
    """Else the other tests would say nothing."""
    with listening() as (address, asked):
        found = opened(f"<title>untouched</title>{hostile(address)}", tmp_path)
    assert "<title>run</title>" in found
    assert "/image" in asked


@pytest.mark.parametrize("kind", ["night", "retraining"])
def test_a_page_shows_hostile_documents_and_runs_and_fetches_nothing(kind: str, tmp_path: Path) -> None:
    with listening() as (address, asked):
        text = hostile(address)
        found = opened(night(text) if kind == "night" else retraining(text), tmp_path)
    assert asked == []
    assert "<title>run</title>" not in found
    assert "&lt;script&gt;document.title = 'run'&lt;/script&gt;" in found
    assert [part for part in ("<script", "<img", "<iframe", "<link") if part in found] == []


def night(text: str) -> str:
    tagged = tag(0, {text: 3}, errors={text: 5}, label_set=LabelSet.of(text[:100]))
    manifests = [replace(each, source=text, message=text) for each in decided(tagged, {text: 80}, {"complaints": 400})]
    return render(
        manifests,
        ordinary(0),
        [Sample(each, [SampleDocument(text, text, {text: 0.5}, text)]) for each in outcomes(manifests, text)],
    )


def retraining(text: str) -> str:
    found = verdict(comparison(text, {text: 0.5}, {text: 0.25}), failed="min_f1_gain")
    found["findings"] = [{"rule": text, "passed": False, "said": text}]
    return verdict_page(facts(model=text, run_id=text, verdict=found))
