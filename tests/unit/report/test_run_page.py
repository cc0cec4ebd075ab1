"""The page of a run: counts, notices and samples, self-contained, with hostile text escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sample_runs import LABELS, daily_runs, run_of, samples, tag, usual_run

from gliclass_spark.errors import ManifestError
from gliclass_spark.labels import LabelSet
from gliclass_spark.report.run.run_report import render, warnings
from gliclass_spark.report.shadow_page import shadow_page
from gliclass_spark.runs.due.retraining_due import RetrainingDue
from gliclass_spark.runs.manifest import Manifest
from gliclass_spark.runs.outcomes import Sample, SampleDocument, outcomes
from gliclass_spark.runs.shadow_comparison import (
    DecisionChange,
    DifferingDocument,
    LabelDifference,
    ShadowComparison,
)

VOID = {"meta", "br", "link", "img", "input", "hr"}
SCRIPT = "<script>alert('x')</script><img src=http://evil.example/x onerror=alert(1)>"


class Page(HTMLParser):
    """A parsed page: elements, ids, links and text. Fails if tags don't match."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []
        self.text = " ".join(" ".join(self.texts).split())
        self.ids = [attributes["id"] for _, attributes in self.tags if "id" in attributes]
        self.links = [str(attributes["href"]) for _, attributes in self.tags if "href" in attributes]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.texts.append(data)


def check(html: str) -> Page:
    """Check what holds for every page: it is self-contained, and its links have targets."""
    page = Page(html)
    assert len(page.ids) == len(set(page.ids))
    assert {link.removeprefix("#") for link in page.links} <= set(page.ids)
    for tag_name, attributes in page.tags:
        assert tag_name not in {"script", "link", "iframe", "img", "object", "embed", "base", "form"}
        assert not [name for name in attributes if name.startswith("on") or name in {"src", "srcset", "xmlns"}]
    assert "@import" not in html
    assert not re.findall(r"url\((?!#)", html)
    assert all(attributes.get("aria-label") for tag_name, attributes in page.tags if tag_name == "svg")
    html.encode("utf-8")
    return page


def page_of(manifests: Sequence[Manifest], history: Sequence[Manifest] = ()) -> Page:
    return check(render(manifests, history, samples(manifests), label_set=LABELS))


def test_a_page_starts_with_documents_in_and_kept() -> None:
    page = page_of(usual_run(8), daily_runs(7))
    assert "1,000 documents in, 900 kept (90%)" in page.text
    assert "100 rejected (10%), 0 quarantined (0%), routed to 2 destinations." in page.text
    assert "All were tagged at 200 texts/s. It took 2 min 20 s." in page.text
    assert "Pipeline support_mail · run run-8 · started 9 November 2026, 02:00 UTC" in page.text
    assert "No warnings" in page.text


def test_every_count_of_the_flow_links_to_its_documents() -> None:
    manifests = run_of(
        tag(0, {"complaint": 3}, errors={"null_text": 5}), {"spam": 80, "too_short": 20}, {"complaints": 400}
    )
    page = page_of(manifests)
    anchors = {outcome.anchor for outcome in outcomes(manifests, "/lake/mail")}
    assert anchors <= set(page.ids)
    assert {f"#{anchor}" for anchor in anchors - {"documents-kept"}} <= set(page.links)
    assert {"#all-kept", "#all-rejected", "#all-quarantined"} <= set(page.links)


def test_a_sample_shows_its_document_its_table_and_a_query() -> None:
    page = page_of(usual_run(0))
    assert "doc-1 Where is my parcel? complaint 0.88 Table /lake/mail/rejected , version 7" in page.text
    assert "where(\"reason = 'spam'\")" in page.text


def test_hostile_documents_are_escaped() -> None:
    manifests = usual_run(0)
    hostile = [
        Sample(outcome, [SampleDocument(SCRIPT, SCRIPT, {SCRIPT: 0.5}, SCRIPT)])
        for outcome in outcomes(manifests, SCRIPT)
    ]
    html = render([replace(manifest, source=SCRIPT, message=SCRIPT) for manifest in manifests], [], hostile)
    assert check(html).text.count("<script>alert('x')</script>") >= 4 * len(hostile)
    assert "<script" not in html


def test_hostile_names_of_labels_reasons_routes_and_codes_are_escaped() -> None:
    label_set = LabelSet.of(SCRIPT)
    tagged = tag(0, {SCRIPT: 30}, errors={SCRIPT: 5}, label_set=label_set)
    manifests = [replace(manifest, status="failed") for manifest in run_of(tagged, {SCRIPT: 80}, {SCRIPT: 400})]
    page = check(render(manifests, [tagged], samples(manifests), label_set=label_set))
    assert SCRIPT in page.text


@pytest.mark.filterwarnings("ignore:Glyph")
@example("\ud800\x00\u202e$x$")
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(alphabet=st.characters(), max_size=30))
def test_any_text_and_any_name_give_a_valid_page(text: str) -> None:
    tagged = tag(0, {"complaint": 3}, errors={text: 5})
    manifests = run_of(tagged, {text: 80}, {"complaints": 400})
    hostile = [
        Sample(outcome, [SampleDocument(text, text, {text: 0.5}, text)]) for outcome in outcomes(manifests, text)
    ]
    check(render(manifests, [], hostile))


def test_the_policy_of_a_run_page_forbids_fetching_and_scripts() -> None:
    page = page_of(usual_run(0))
    policy = [attributes["content"] for name, attributes in page.tags if attributes.get("http-equiv")]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"]
    assert "http:" not in render(usual_run(0), [], [])
    assert "https:" not in render(usual_run(0), [], [])


def test_the_same_run_gives_the_same_page() -> None:
    first, second = (render(usual_run(8), daily_runs(7), samples(usual_run(8)), label_set=LABELS) for _ in range(2))
    assert first == second


def test_a_large_drift_is_a_notice_that_names_the_label() -> None:
    manifests = run_of(tag(8, {"complaint": 700, "invoice": 50}), {}, {})
    page = page_of(manifests, daily_runs(7))
    assert "Large drift complaint, compared with the last 7 runs" in page.text
    assert "complaint ▲▲ large" in page.text
    assert "invoice ✓ steady" in page.text
    assert "0.677" in page.text


def test_another_model_in_the_runs_compared_with_is_a_note_with_its_text() -> None:
    tagged, *later = usual_run(8)
    page = page_of([replace(tagged, model_digest="e" * 64), *later], daily_runs(7))
    note = "Other model some of the runs compared with used another model, which may explain drift Show"
    assert note in page.text


def test_a_first_run_has_nothing_to_compare_with() -> None:
    page = page_of(usual_run(0))
    assert "No earlier run used this label set" in page.text
    assert "steady" not in page.text
    assert "No warnings" in page.text


def test_a_failed_run_starts_with_the_failure_and_its_message() -> None:
    failed = replace(tag(0, {"complaint": 3}, errors={"null_text": 50}), status="failed", message="too many failed")
    page = page_of([failed])
    assert "The tag job failed" in page.text
    assert "✕ Failed tag: too many failed" in page.text
    assert "No warnings" not in page.text


def test_an_unfinished_run_has_a_warning() -> None:
    running = replace(tag(0, {}), status="running", rows_in=0, tagged=None, label_counts={}, step_seconds={})
    page = page_of([replace(running, finished_at=running.started_at)])
    assert "The tag job has not finished" in page.text
    assert "tag was running when this page was written" in page.text


def test_errors_and_waiting_documents_are_warnings() -> None:
    manifests = run_of(tag(0, {"complaint": 3}, errors={"null_text": 9, "too_large": 1}), {}, {})
    page = page_of([manifests[0], replace(manifests[1], waiting=1234)])
    assert "▲ Errors 10 documents (1.0% of the tagged) could not be scored (null_text: 9 and too_large: 1)" in page.text
    assert "▲ Waiting 1,234 documents of the source not tagged yet" in page.text


def test_a_run_whose_documents_mostly_got_no_label_says_what_to_do_and_warns_nobody() -> None:
    few = run_of(tag(0, {"complaint": 200, "invoice": 60}), {}, {})
    assert "Few labels 74% or more of the tagged documents got none." in page_of(few).text
    assert warnings(few, []) == []
    assert "Few labels" not in page_of(run_of(tag(0, {"complaint": 400}), {}, {})).text


def test_less_than_half_the_usual_speed_is_a_warning() -> None:
    slow = replace(tag(8, {"complaint": 300, "invoice": 50}), texts_per_s=99.0)
    assert "▲ Slow 99.0 texts/s when tagging, less than half of the usual 200" in page_of([slow], daily_runs(7)).text
    assert "Slow" not in page_of([replace(slow, texts_per_s=101.0)], daily_runs(7)).text


def test_a_run_that_tagged_nothing_reports_so() -> None:
    tagged, filtered, routed = usual_run(8)
    idle = replace(tagged, tagged=0, label_counts={}, score_histograms={}, texts_per_s=None)
    page = page_of([idle, filtered, routed], daily_runs(7))
    assert "No document had to be tagged: all scores were up to date." in page.text
    assert "This run scored no document, so there is nothing to compare." in page.text


@pytest.mark.parametrize(
    ("jobs", "text"),
    [
        ([0], "1,000 documents in, 1,000 tagged"),
        ([1], "1,000 documents in, 900 kept (90%)"),
        ([2], "900 documents routed"),
        ([1, 2], "This run has no tag job."),
    ],
)
def test_a_run_of_some_of_the_jobs_has_a_page(jobs: list[int], text: str) -> None:
    assert text in page_of([usual_run(8)[job] for job in jobs], daily_runs(7)).text


def test_the_last_manifest_of_a_repeated_job_counts() -> None:
    first = replace(tag(0, {"complaint": 3}), status="failed", message="the executor was lost")
    page = page_of([first, *usual_run(0)])
    assert "the executor was lost" not in page.text
    assert "900 kept" in page.text


def test_an_incremental_run_is_marked() -> None:
    partial = [replace(manifest, full_scan=False) for manifest in usual_run(8)]
    assert "Only documents that changed since the previous run were read" in page_of(partial, daily_runs(7)).text
    assert "Only documents that changed" not in page_of(usual_run(8), daily_runs(7)).text


def test_sixty_labels_and_sixty_routes_each_have_a_row() -> None:
    label_set = LabelSet.of(*(f"topic {number}" for number in range(60)))
    tagged = tag(1, dict.fromkeys(label_set.names, 100), label_set=label_set)
    manifests = run_of(tagged, {}, {f"route_{number}": 10 for number in range(60)})
    page = check(render(manifests, [replace(tagged, run_id="before")], samples(manifests)))
    assert all(f"topic {number} ✓ steady" in page.text for number in range(60))
    assert all(f"to route_{number} 10" in page.text for number in range(60))
    assert "50 others" in page.text


def test_large_counts_have_separators() -> None:
    filtered = replace(usual_run(0)[1], rows_in=1_234_567_890, kept=1_234_567_790, rejected={"spam": 100})
    page = page_of([filtered])
    assert "1,234,567,890 documents in, 1,234,567,790 kept (>99.9%)" in page.text
    assert "1234567890" not in page.text


def test_a_document_may_have_several_routes() -> None:
    route = replace(usual_run(0)[2], routed={"complaints": 900, "invoices": 700, "unrouted": 0})
    page = page_of([usual_run(0)[1], route])
    assert "to complaints 900 100% to invoices 700 78% to unrouted 0 0%" in page.text


def test_a_null_text_and_an_empty_text_differ() -> None:
    manifests = usual_run(0)
    assert "no text (null)" in check(render(manifests, [], samples(manifests, None))).text
    assert "an empty text" in check(render(manifests, [], samples(manifests, " \n"))).text


def test_a_long_text_is_cut() -> None:
    manifests = usual_run(0)
    page = check(render(manifests, [], samples(manifests, "word " * 1000)))
    assert max(len(text) for text in page.texts) < 400


def test_thresholds_are_drawn_only_for_the_label_set_of_the_run() -> None:
    assert "the label's threshold" in check(render(usual_run(0), [], label_set=LABELS)).text
    assert "the label's threshold" not in check(render(usual_run(0), [], label_set=LabelSet.of("complaint"))).text


def test_a_report_without_manifests_is_refused() -> None:
    with pytest.raises(ManifestError, match="at least, found none"):
        render([], [])


def test_a_shadow_page_shows_what_another_model_changes() -> None:
    comparison = ShadowComparison(
        *("run-1", "models:/mail/2", "b" * 64, "a" * 64, 100, 70, 2),
        labels=(LabelDifference(SCRIPT, 40, 30, 20, 10, -0.125),),
        differences=(0,) * 9 + (60, 40) + (0,) * 9,
        decisions=(DecisionChange("kept, to a", "rejected: b", 12),),
        examples=(DifferingDocument("7", SCRIPT, ("a",), (), 0.5),),
    )
    html = shadow_page("mail", comparison)
    page = Page(html)
    assert "30 of 100 documents would get other labels" in page.text
    assert "2 documents could not be scored" in page.text
    assert "40 30 20 10 -0.125" in page.text
    assert "kept, to a rejected: b 12" in page.text
    assert "<script" not in html
    assert ShadowComparison.from_json(comparison.to_json()) == comparison
    report = Page(render(run_of(tag(0, {"complaint": 300}), {}, {}), [], shadow=comparison))
    assert "has tagged 100 documents of this run beside its model: 30 would get other labels" in report.text
    assert "kept, to a rejected: b 12" in report.text
    assert "No decision would change." in shadow_page("mail", replace(comparison, decisions=()))


def test_a_retraining_that_is_due_is_a_warning_and_a_section() -> None:
    manifests = run_of(tag(0, {"complaint": 300}), {}, {})
    due = RetrainingDue(True, ("a <reason>",), ("a note",), "d" * 64, manifests[0].started_at, 12, 9000)
    page = render(manifests, [], due=due)
    assert "A retraining is due. This model has tagged 9,000 documents in 12 runs since" in page
    assert "<li>a &lt;reason&gt;</li>" in page
    assert "Not known: a note" in page
    assert warnings(manifests, [], due) == ["Retraining due: a <reason>"]
    assert "No retraining is due." in render(manifests, [], due=replace(due, due=False, reasons=()))
    assert 'id="retraining"' not in render(manifests, [])
