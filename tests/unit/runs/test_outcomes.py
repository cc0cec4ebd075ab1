"""Outcomes of a run: their tables, anchors and queries."""

from __future__ import annotations

import ast
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st
from sample_runs import run_of, tag, usual_run

from gliclass_spark.runs.outcomes import Outcome, outcomes


def test_outcomes_with_documents_are_listed_in_the_order_of_the_pipeline() -> None:
    manifests = run_of(
        tag(0, {"complaint": 3}, errors={"null_text": 5}), {"spam": 80, "too_short": 0}, {"complaints": 400}
    )
    assert [(outcome.kind, outcome.name, outcome.documents) for outcome in outcomes(manifests, "/lake")] == [
        ("kept", "", 915),
        ("rejected", "spam", 80),
        ("quarantined", "null_text", 5),
        ("routed", "complaints", 400),
        ("routed", "unrouted", 515),
    ]


def test_documents_that_failed_in_an_earlier_run_are_one_outcome() -> None:
    tagged, filtered, _ = run_of(tag(0, {"complaint": 3}, errors={"null_text": 5}), {}, {})
    filtered = replace(filtered, kept=992, quarantined=8)
    assert [(outcome.name, outcome.documents) for outcome in outcomes([tagged, filtered], "/lake")] == [
        ("", 992),
        ("", 8),
    ]


def test_a_query_reads_the_table_version_that_the_run_wrote() -> None:
    spam = outcomes(usual_run(0), "/lake/mail/")[1]
    assert spam.query == (
        'spark.read.format("delta").option("versionAsOf", 7).load(\'/lake/mail/rejected\')'
        '.where("reason = \'spam\'").select("doc_id", "labels", "scores").show(80, truncate=False)'
    )


def test_a_table_with_documents_of_other_runs_is_filtered_by_run_id() -> None:
    partial = [replace(manifest, full_scan=False) for manifest in usual_run(3)]
    kept, spam = outcomes(partial, "/lake")[:2]
    assert kept.values == {"run_id": "run-3"}
    assert spam.values == {"reason": "spam", "run_id": "run-3"}
    assert """.where("reason = 'spam' AND run_id = 'run-3'")""" in spam.query
    assert outcomes(usual_run(3), "/lake")[0].values == {}


@given(st.text(), st.text(min_size=1), st.text())
def test_a_query_is_one_line_of_python_for_any_names(name: str, path: str, run_id: str) -> None:
    query = Outcome("rejected", name, 3, path, run_id=run_id).query
    assert len(query.splitlines()) == 1
    assert isinstance(ast.parse(query).body[0], ast.Expr)


def test_a_quote_in_a_name_does_not_end_the_condition() -> None:
    query = ast.parse(Outcome("rejected", "a' OR '1'='1", 3, "/lake").query)
    texts = [node.value for node in ast.walk(query) if isinstance(node, ast.Constant)]
    assert r"reason = 'a\' OR \'1\'=\'1'" in texts


@given(st.lists(st.text(), unique=True))
def test_no_two_outcomes_share_an_anchor(names: list[str]) -> None:
    anchors = {Outcome("rejected", name, 1, "/lake").anchor for name in names}
    assert len(anchors) == len(names)
    assert all(" " not in anchor and anchor.isascii() for anchor in anchors)
