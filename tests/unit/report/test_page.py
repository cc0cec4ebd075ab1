"""The page: it says what happened, stands alone, and shows hostile text as text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from nights import LABELS, decided, nights, ordinary, samples, tag

from gliclass_spark.errors import ManifestError
from gliclass_spark.labels import LabelSet
from gliclass_spark.report import Sample, SampleDocument, render
from gliclass_spark.runs import outcomes
from gliclass_spark.runs.manifest import Manifest

VOID = {"meta", "br", "link", "img", "input", "hr"}
SCRIPT = "<script>alert('x')</script><img src=http://evil.example/x onerror=alert(1)>"


class Page(HTMLParser):
    """What a page says: its elements, their ids and links, and its text. Fails if tags don't match."""

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
    """What holds for every page: it is whole in itself, and its links lead somewhere."""
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


def of(manifests: Sequence[Manifest], history: Sequence[Manifest] = ()) -> Page:
    return check(render(manifests, history, samples(manifests), label_set=LABELS))


def test_a_page_leads_with_what_came_in_and_what_was_kept() -> None:
    page = of(ordinary(8), nights(7))
    assert "1,000 documents in, 900 kept (90%)" in page.text
    assert "100 rejected (10%), 0 quarantined (0%), routed to 2 destinations." in page.text
    assert "All were tagged at 200 texts/s. It took 2 min 20 s." in page.text
    assert "Pipeline support_mail · run night-8 · started 9 November 2026, 02:00 UTC" in page.text
    assert "All is well" in page.text


def test_every_count_of_the_flow_leads_to_its_documents() -> None:
    manifests = decided(
        tag(0, {"complaint": 3}, errors={"null_text": 5}), {"spam": 80, "too_short": 20}, {"complaints": 400}
    )
    page = of(manifests)
    places = {outcome.anchor for outcome in outcomes(manifests, "/lake/mail")}
    assert places <= set(page.ids)
    assert {f"#{place}" for place in places - {"documents-kept"}} <= set(page.links)
    assert {"#all-kept", "#all-rejected", "#all-quarantined"} <= set(page.links)


def test_a_sample_shows_its_document_its_table_and_the_query_that_lists_them_all() -> None:
    page = of(ordinary(0))
    assert "doc-1 Where is my parcel? complaint 0.88 Table /lake/mail/rejected , version 7" in page.text
    assert "where(\"reason = 'spam'\")" in page.text


def test_documents_are_shown_as_text_whatever_they_hold() -> None:
    manifests = ordinary(0)
    hostile = [
        Sample(outcome, [SampleDocument(SCRIPT, SCRIPT, {SCRIPT: 0.5}, SCRIPT)])
        for outcome in outcomes(manifests, SCRIPT)
    ]
    html = render([replace(manifest, source=SCRIPT, message=SCRIPT) for manifest in manifests], [], hostile)
    assert check(html).text.count("<script>alert('x')</script>") >= 4 * len(hostile)
    assert "<script" not in html


def test_names_of_labels_reasons_routes_and_codes_are_shown_as_text() -> None:
    label_set = LabelSet.of(SCRIPT)
    tagged = tag(0, {SCRIPT: 30}, errors={SCRIPT: 5}, label_set=label_set)
    manifests = [replace(found, status="failed") for found in decided(tagged, {SCRIPT: 80}, {SCRIPT: 400})]
    page = check(render(manifests, [tagged], samples(manifests), label_set=label_set))
    assert SCRIPT in page.text


@pytest.mark.filterwarnings("ignore:Glyph")
@example("\ud800\x00\u202e$x$")
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(alphabet=st.characters(), max_size=30))
def test_any_text_and_any_name_give_a_sound_page(text: str) -> None:
    tagged = tag(0, {"complaint": 3}, errors={text: 5})
    manifests = decided(tagged, {text: 80}, {"complaints": 400})
    found = [Sample(outcome, [SampleDocument(text, text, {text: 0.5}, text)]) for outcome in outcomes(manifests, text)]
    check(render(manifests, [], found))


def test_nothing_may_be_fetched_or_run_by_the_page() -> None:
    page = of(ordinary(0))
    policy = [attributes["content"] for name, attributes in page.tags if attributes.get("http-equiv")]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"]
    assert "http:" not in render(ordinary(0), [], [])
    assert "https:" not in render(ordinary(0), [], [])


def test_the_same_run_gives_the_same_page() -> None:
    first, second = (render(ordinary(8), nights(7), samples(ordinary(8)), label_set=LABELS) for _ in range(2))
    assert first == second


def test_a_label_that_moved_is_told_at_the_top_in_words() -> None:
    manifests = decided(tag(8, {"complaint": 700, "invoice": 50}), {}, {})
    page = of(manifests, nights(7))
    assert "Large drift complaint, against the last 7 runs" in page.text
    assert "complaint ▲▲ large" in page.text
    assert "invoice ✓ steady" in page.text
    assert "0.677" in page.text


def test_a_first_run_says_that_there_is_nothing_to_compare_with() -> None:
    page = of(ordinary(0))
    assert "No earlier run asked these labels" in page.text
    assert "steady" not in page.text
    assert "All is well" in page.text


def test_a_failed_run_says_so_first_and_why() -> None:
    failed = replace(tag(0, {"complaint": 3}, errors={"null_text": 50}), status="failed", message="too many failed")
    page = of([failed])
    assert "The tag job failed" in page.text
    assert "✕ Failed tag: too many failed" in page.text
    assert "All is well" not in page.text


def test_a_run_that_is_not_over_says_so() -> None:
    running = replace(tag(0, {}), status="running", rows_in=0, tagged=None, label_counts={}, step_seconds={})
    page = of([replace(running, finished_at=running.started_at)])
    assert "The tag job has not finished" in page.text
    assert "tag was running when this page was made" in page.text


def test_errors_and_waiting_documents_need_attention() -> None:
    manifests = decided(tag(0, {"complaint": 3}, errors={"null_text": 9, "too_large": 1}), {}, {})
    page = of([manifests[0], replace(manifests[1], waiting=1234)])
    assert "▲ Errors 10 documents (1.0% of the tagged) could not be scored (null_text: 9 and too_large: 1)" in page.text
    assert "▲ Waiting 1,234 documents of the source not tagged yet" in page.text


def test_a_night_that_ran_at_less_than_half_the_usual_speed_needs_attention() -> None:
    slow = replace(tag(8, {"complaint": 300, "invoice": 50}), texts_per_s=99.0)
    assert "▲ Slow 99.0 texts/s when tagging, less than half of the usual 200" in of([slow], nights(7)).text
    assert "Slow" not in of([replace(slow, texts_per_s=101.0)], nights(7)).text


def test_a_night_that_tagged_nothing_says_so() -> None:
    tagged, filtered, routed = ordinary(8)
    idle = replace(tagged, tagged=0, label_counts={}, score_histograms={}, texts_per_s=None)
    page = of([idle, filtered, routed], nights(7))
    assert "Nothing was tagged: every document already had its scores." in page.text
    assert "This run scored no document, so there is nothing to compare." in page.text


@pytest.mark.parametrize(
    ("jobs", "said"),
    [
        ([0], "1,000 documents in, 1,000 tagged"),
        ([1], "1,000 documents in, 900 kept (90%)"),
        ([2], "900 documents routed"),
        ([1, 2], "This run has no tag job: no label was asked anew."),
    ],
)
def test_a_run_of_some_of_the_jobs_has_a_page_too(jobs: list[int], said: str) -> None:
    assert said in of([ordinary(8)[job] for job in jobs], nights(7)).text


def test_of_a_job_that_ran_twice_the_last_manifest_counts() -> None:
    first = replace(tag(0, {"complaint": 3}), status="failed", message="the executor was lost")
    page = of([first, *ordinary(0)])
    assert "the executor was lost" not in page.text
    assert "900 kept" in page.text


def test_a_night_of_changes_only_says_so() -> None:
    partial = [replace(manifest, whole=False) for manifest in ordinary(8)]
    assert "Only documents that changed since the run before were looked at" in of(partial, nights(7)).text
    assert "Only documents that changed" not in of(ordinary(8), nights(7)).text


def test_sixty_labels_and_sixty_routes_have_their_rows() -> None:
    label_set = LabelSet.of(*(f"topic {number}" for number in range(60)))
    tagged = tag(1, dict.fromkeys(label_set.names, 100), label_set=label_set)
    manifests = decided(tagged, {}, {f"route_{number}": 10 for number in range(60)})
    page = check(render(manifests, [replace(tagged, run_id="before")], samples(manifests)))
    assert all(f"topic {number} ✓ steady" in page.text for number in range(60))
    assert all(f"to route_{number} 10" in page.text for number in range(60))
    assert "50 others" in page.text


def test_large_counts_have_separators() -> None:
    filtered = replace(ordinary(0)[1], rows_in=1_234_567_890, kept=1_234_567_790, rejected={"spam": 100})
    page = of([filtered])
    assert "1,234,567,890 documents in, 1,234,567,790 kept (>99.9%)" in page.text
    assert "1234567890" not in page.text


def test_a_document_may_go_more_than_one_way() -> None:
    route = replace(ordinary(0)[2], routed={"complaints": 900, "invoices": 700, "unrouted": 0})
    page = of([ordinary(0)[1], route])
    assert "to complaints 900 100% to invoices 700 78% to unrouted 0 0%" in page.text


def test_a_null_text_and_an_empty_one_are_told_apart() -> None:
    manifests = ordinary(0)
    assert "no text (null)" in check(render(manifests, [], samples(manifests, None))).text
    assert "an empty text" in check(render(manifests, [], samples(manifests, " \n"))).text


def test_a_long_text_is_cut() -> None:
    manifests = ordinary(0)
    page = check(render(manifests, [], samples(manifests, "word " * 1000)))
    assert max(len(text) for text in page.texts) < 400


def test_thresholds_are_drawn_only_of_the_label_set_that_was_asked() -> None:
    assert "the label's threshold" in check(render(ordinary(0), [], label_set=LABELS)).text
    assert "the label's threshold" not in check(render(ordinary(0), [], label_set=LabelSet.of("complaint"))).text


def test_a_report_of_no_run_is_refused() -> None:
    with pytest.raises(ManifestError, match="at least, found none"):
        render([], [])
