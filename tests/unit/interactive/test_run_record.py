"""The record of a run: its counts, and what a notebook shows of it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import sample_runs

from gliclass_spark.interactive.run_record import RunRecord

TAGGED = replace(sample_runs.tag(1, {"complaint": 200, "invoice": 1000, "<b>&": 0}), documents=1000)
MANIFESTS = tuple(sample_runs.run_of(TAGGED, {"short": 30, "<script>": 20}, {"finance": 700}))
RECORD = RunRecord("run-1", "support_mail", MANIFESTS, {"tags": "/lake/tags"}, Path("run <1>.html"))


def test_counts_are_the_outcomes_of_each_step() -> None:
    assert RECORD.counts == {
        "documents": 1000,
        "tagged": 1000,
        "kept": 950,
        "rejected": 50,
        "rejected: short": 30,
        "rejected: <script>": 20,
        "quarantined": 0,
        "to finance": 700,
        "to unrouted": 250,
    }
    assert list(RECORD.label_counts.items()) == [("invoice", 1000), ("complaint", 200)]


def test_a_run_of_one_step_has_its_counts_alone() -> None:
    assert RunRecord("run-1", "support_mail", MANIFESTS[:1], {}).counts == {"documents": 1000, "tagged": 1000}


def test_the_repr_is_one_line() -> None:
    assert "'run-1' of pipeline 'support_mail': 1000 documents, 1000 tagged, 950 kept" in repr(RECORD)
    assert "\n" not in repr(RECORD)


def test_a_notebook_shows_a_table_and_a_chart_without_scripts() -> None:
    html = RECORD._repr_html_()
    page = ElementTree.fromstring(html)  # noqa: S314 - our own
    cells = [cell.text for cell in page.iter("td")]
    assert dict(zip(cells[::2], cells[1::2], strict=True)) == {
        name: f"{count:,}" for name, count in RECORD.counts.items()
    }
    assert [element.tag for element in page] == ["table", "p", "{http://www.w3.org/2000/svg}svg", "p"]
    svg = page[2]
    widths = [float(bar.attrib["width"]) for bar in svg.iter("{http://www.w3.org/2000/svg}rect")]
    assert widths[1] / widths[0] == 0.2
    assert [text.text for text in svg.iter("{http://www.w3.org/2000/svg}text")] == [
        *("invoice", "1,000"),
        *("complaint", "200"),
    ]
    assert page[3].text == "Report: run <1>.html"
    assert "<script>" not in html


def test_many_labels_of_any_name_fit_into_the_chart() -> None:
    counts = {f"label\x00 <{number}> & {'x' * 60}": number + 1 for number in range(50)}
    html = RunRecord("run-1", "mail", (replace(TAGGED, label_counts=counts),), {})._repr_html_()
    page = ElementTree.fromstring(html)  # noqa: S314 - our own
    svg = page.find("{http://www.w3.org/2000/svg}svg")
    assert svg is not None
    assert len(svg.findall("{http://www.w3.org/2000/svg}rect")) == 20
    assert "the 20 most frequent of 50" in html
    assert max(len(text.text or "") for text in svg.iter("{http://www.w3.org/2000/svg}text")) == 28


def test_without_labels_there_is_a_table_alone() -> None:
    html = RunRecord("run-1", "mail", (replace(TAGGED, label_counts={}),), {})._repr_html_()
    assert re.findall("<svg|<p>", html) == []
