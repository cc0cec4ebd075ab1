"""What commands print at 80 and 120 columns, in a pipe and without colors: every figure is whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console
from sample_runs import run_of, tag

from gliclass_spark.checkpoints.registry import ModelVersion
from gliclass_spark.cli.cluster_size import Executor, Workload
from gliclass_spark.cli.output.feedback_output import show_feedback
from gliclass_spark.cli.output.maintenance_output import show_maintenance
from gliclass_spark.cli.output.model_output import show_versions
from gliclass_spark.cli.output.plan_output import show_plan, show_sizing
from gliclass_spark.cli.output.result_table import ResultTable
from gliclass_spark.cli.output.retraining_output import show_verdict
from gliclass_spark.cli.output.run_output import run_table, show_line, show_unlabelled
from gliclass_spark.cli.output.training_output import show_scores
from gliclass_spark.runs.outcomes import SampleDocument
from gliclass_spark.spark.jobs.feedback.ingestion import IngestedSignals, RefusedSignals
from gliclass_spark.spark.jobs.maintain import TableSize
from gliclass_spark.spark.jobs.plan import Plan, PlannedOutcome
from gliclass_spark.training.evaluation.evaluate import Score

LONG_REASON = "rejected: looks like an automatic reply of another mail server"
PARCEL = SampleDocument("mail-000000000001", "Where is my parcel? It never arrived, and I want my money back at once.")
PLAN = Plan(
    3_000_000,
    2_900_000,
    200,
    123_456_789,
    7200,
    350.0,
    [
        PlannedOutcome("kept", 100_000, 2_123_456, [PARCEL, SampleDocument("2", "[bold]Hi")]),
        PlannedOutcome(LONG_REASON, 0, 12),
        PlannedOutcome("to customer_service_deliveries", 1_234_567, 1_000_000),
    ],
)
SCORES = [
    Score(contender, name, 4, 600, 0.512, 0.6, {"a": 0.5}, 123.4, shots, seed)
    for contender in ("embedded", "example/a-model-with-a-long-name-v2.0@0123456789abcdef", "./candidate")
    for name in ("mails of customers", "tweets")
    for shots in (0, 8)
    for seed in (0, 1)
]
VERDICT = {
    "promoted": True,
    "findings": [{"passed": True, "rule": "macro_f1_gain", "message": "+0.012 on the golden set, at least +0.000"}],
    "comparisons": [
        {
            "name": "golden set of mails",
            "texts": 1234,
            "champion": {"macro_f1": 0.5, "calibration_error": 0.05},
            "candidate": {"macro_f1": 0.6, "calibration_error": 0.04},
            "f1_interval": (-0.01, 0.02),
        }
    ],
}
VERSIONS = [
    ModelVersion(
        "mail", 1, "a" * 64, ("champion", "previous"), datetime(2026, 1, 1, tzinfo=UTC), None, "", {"macro_f1": "0.123"}
    )
]
SIGNALS = IngestedSignals(
    read=1_000_000,
    new=999_000,
    duplicates=12,
    documents=3,
    late=34,
    refused={"unknown label": RefusedSignals(1000, "x")},
    contradicting=56,
)


def show_run_table(console: Console) -> None:
    run: Any = SimpleNamespace(
        run_id="20261129T120000Z-abcd", pipeline=SimpleNamespace(name="mail", reject=[SimpleNamespace(reason="short")])
    )
    jobs = run_of(tag(1, {"invoice": 400}), {"short": 100}, {"billing": 300})
    run_table(run, {manifest.job: manifest for manifest in jobs}).print(console)


# What is printed, and the figures that must be in it, each in one piece.
SHOWN: dict[str, tuple[Callable[[Console], None], list[str]]] = {
    "plan": (lambda console: show_plan(console, "mail", PLAN), ["100,000", "~2,123,456", "~12", "1,234,567"]),
    "cluster": (
        lambda console: show_sizing(console, Workload(1_000_000_000, 2000, 8), Executor(4, 12.0)),
        ["1,000,000,000 / 1,600 / 3,600", "520.83"],
    ),
    "evaluate": (lambda console: show_scores(console, SCORES), ["0.512 (0.512-0.512)", "0.600", "123"]),
    "retrain": (
        lambda console: show_verdict(console, VERDICT, Path("gate.html")),
        ["1,234", "0.500 -> 0.600", "+0.100", "-0.010 to +0.020", "0.050 -> 0.040"],
    ),
    "run": (show_run_table, ["1000", "900", "300", "600"]),
    "models": (lambda console: show_versions(console, "mail", VERSIONS), ["a" * 12, "2026-01-01 00:00", "0.123"]),
    "maintain": (
        lambda console: show_maintenance(console, [TableSize("a_table_with_a_long_name", 1234, 1, 12345678901, 10**9)]),
        ["1234", "12345.7", "1000.0"],
    ),
    "feedback": (
        lambda console: show_feedback(console, "mail", SIGNALS),
        ["1,000,000", "999,000", "1,000", "12", "34", "56"],
    ),
}


def printed(show: Callable[[Console], None], width: int, **options: Any) -> list[str]:
    console = Console(width=width, file=StringIO(), **options)
    show(console)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("name", SHOWN)
def test_every_figure_is_whole_and_no_line_is_too_long(name: str, width: int) -> None:
    show, figures = SHOWN[name]
    lines = printed(show, width)
    assert [line for line in lines if len(line) > width] == []
    cells = {cell.strip() for line in lines for cell in line.split("│")}
    assert [figure for figure in figures if figure not in cells] == []


def test_a_plan_at_80_columns() -> None:
    assert printed(SHOWN["plan"][0], 80) == [
        "A run of pipeline mail would read 3,000,000 documents",
        "and tag 2,900,000 of them: about 123,456,789 tokens, 2 h 0 min of scoring (from",
        "a sample of 200).",
        "Expected outcomes",
        "┏━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━━┳━━━━━━━━━━━━┳━━━━━━━━━━━━━━┓",
        "┃ outcome                              ┃    scored ┃  estimated ┃ examples     ┃",
        "┡━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━━╇━━━━━━━━━━━━╇━━━━━━━━━━━━━━┩",
        "│ kept                                 │   100,000 │ ~2,123,456 │ mail-000000… │",
        "│                                      │           │            │ 2: [bold]Hi  │",
        "│ rejected: looks like an automatic    │         0 │        ~12 │              │",
        "│ reply of another mail server         │           │            │              │",
        "│ to customer_service_deliveries       │ 1,234,567 │ ~1,000,000 │              │",
        "└──────────────────────────────────────┴───────────┴────────────┴──────────────┘",
    ]


def test_contenders_that_do_not_fit_are_in_tables_below_each_other() -> None:
    narrow, wide = printed(SHOWN["evaluate"][0], 80), printed(SHOWN["evaluate"][0], 200)
    assert (narrow.count("Macro-F1"), wide.count("Macro-F1")) == (3, 1)


def test_numbers_wider_than_the_terminal_are_still_whole() -> None:
    table = ResultTable("Wide")
    table.text("label")
    for column in range(8):
        table.number(f"number {column}")
    table.row("a label that gives way", *(["1,234,567.89"] * 8))
    lines = printed(table.print, 80)
    assert sum(line.count("│ 1,234,567.89 ") for line in lines) == 8


def test_texts_of_the_source_are_no_markup_and_end_in_an_ellipsis() -> None:
    table = ResultTable("Lines")
    table.line("doc_id")
    table.line("text")
    table.row("m1", "[bold]" + "x" * 100)
    [row] = [line for line in printed(table.print, 40) if "m1" in line]
    assert row == f"│ m1     │ [bold]{'x' * 20}… │"


def test_a_terminal_shows_colors_and_no_color_and_a_pipe_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    show = SHOWN["run"][0]
    colored = printed(show, 80, force_terminal=True, color_system="standard")
    assert any("\x1b[32mkept" in line for line in colored)
    assert not any("\x1b" in line for line in printed(show, 80))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not any("\x1b[32m" in line for line in printed(show, 80, force_terminal=True, color_system="standard"))


def test_a_run_whose_documents_mostly_got_no_label_says_what_to_do() -> None:
    few = run_of(tag(1, {"invoice": 200, "complaint": 60}), {}, {})
    assert printed(lambda console: show_unlabelled(console, few), 80) == [
        "74% or more of the tagged documents got no label. If you expect more:",
        "- gliclass-spark report PIPELINE.yaml: each label's scores beside its threshold",
        "- gliclass-spark calibrate --help: fit the thresholds to labelled texts",
        "- top_k: 1 and threshold: 0 in the label set: each text's best label, whatever",
        '  its score; in Python gliclass_udf(labels, threshold=0, output="best")',
    ]
    half = run_of(tag(1, {"invoice": 400, "complaint": 100}), {}, {})
    assert printed(lambda console: show_unlabelled(console, half), 80) == []
    nothing_new = run_of(tag(1, {}, documents=0), {}, {})
    assert printed(lambda console: show_unlabelled(console, nothing_new), 80) == []


@pytest.mark.parametrize(("full_scan", "read"), [(False, "1000 new or changed"), (True, "1000 documents")])
def test_the_line_of_a_run_says_what_it_read(full_scan: bool, read: str) -> None:
    tagged = replace(tag(1, {"invoice": 400}), full_scan=full_scan)
    manifests = run_of(tagged, {"too_short": 100}, {"billing": 300})
    assert printed(lambda console: show_line(console, manifests), 80) == [
        f"02:00:00 UTC  {read}, 1000 tagged, 900 kept, 100 rejected, 0 quarantined; 300 to billing, 600 to unrouted"
    ]
