"""The page of a verdict: decision, rules, quality and training, self-contained, with hostile names escaped."""

from __future__ import annotations

import json
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rich.console import Console
from sample_retrainings import CANDIDATE, CHAMPION, NO_PPO, comparison, facts, ppo, verdict
from test_run_page import SCRIPT, Page, check

from gliclass_spark.cli.output.retraining_output import show_verdict
from gliclass_spark.report.verdict import verdict_page, write_verdict_page

REFUSED = verdict(comparison("golden", {"spam": 0.75}, {"spam": 0.5}), failed="max_label_loss")


@cache
def usual() -> Page:
    return check(verdict_page(facts()))


def page_of(**changed: Any) -> Page:
    return check(verdict_page(facts(**changed)))


def charts(page: Page) -> str:
    """Return the text alternatives of the charts."""
    return "\n".join(str(attributes["aria-label"]) for name, attributes in page.tags if name == "svg")


def test_a_promotion_starts_with_both_digests_and_has_the_rollback_command() -> None:
    page = usual()
    assert "support_mail: the candidate is promoted" in page.text
    assert (
        f"Candidate {CANDIDATE[:12]} was compared with champion {CHAMPION[:12]} on 1,200 texts of golden, "
        "on which neither was trained. It passes all 3 checks." in page.text
    )
    assert "✓ All rules passed" in page.text
    assert "gliclass-spark rollback support_mail" in page.text
    assert f"digest {CHAMPION}" in page.text
    assert f"digest {CANDIDATE}" in page.text


def test_a_refusal_starts_with_the_failed_rule() -> None:
    page = page_of(verdict=REFUSED)
    assert "support_mail: the candidate is refused" in page.text
    assert "It fails 1 of 3 checks: the champion stays." in page.text
    assert "✕ max_label_loss max_label_loss: measured, limit" in page.text
    assert "All rules passed" not in page.text
    assert "rollback" not in page.text
    assert "gliclass-spark promote support_mail" in page.text


def test_every_rule_has_a_row_with_its_result() -> None:
    page = page_of(verdict=REFUSED)
    assert "✓ passed max_f1_loss max_f1_loss: measured, limit" in page.text
    assert "✕ failed max_label_loss max_label_loss: measured, limit" in page.text


def test_every_set_has_its_gain_interval_and_calibration() -> None:
    page = usual()
    row = "golden 1,200 0.650 → 0.717 +0.067 +0.047 to +0.097 0.080 → 0.050 88%"
    assert row in page.text
    assert "Gain +0.067, between +0.047 and +0.097" in charts(page)


def test_labels_are_sorted_from_the_largest_loss_to_the_largest_gain() -> None:
    values = "invoice: 0.75 → 0.70, 40 texts; spam: 0.70 → 0.70, 40 texts; complaint: 0.50 → 0.75, 40 texts"
    assert values in charts(usual())


def test_only_the_labels_that_changed_most_are_drawn() -> None:
    before = {f"label {number}": 0.2 for number in range(60)}
    after = {f"label {number}": 0.2 + number / 100 for number in range(60)}
    page = page_of(verdict=verdict(comparison("golden", before, after)))
    assert "the 25 of 60 labels that changed most" in page.text
    assert [number for number in range(60) if f"label {number}: " in charts(page)] == list(range(35, 60))


def test_an_undefined_f1_is_a_dash() -> None:
    golden = comparison("golden", {"complaint": 0.5}, {"complaint": 0.5, "spam": 0.0})
    golden["label_texts"] |= {"spam": 0, "invoice": 0}
    descriptions = charts(page_of(verdict=verdict(golden)))
    assert "spam: – → 0.00, 0 texts" in descriptions
    assert "invoice" not in descriptions


@pytest.mark.parametrize(
    ("selected", "name", "difference"), [("ppo", "PPO's", "+0.125"), ("supervised", "The supervised", "-0.125")]
)
def test_the_page_gives_the_estimate_by_which_a_candidate_was_selected(
    selected: str, name: str, difference: str
) -> None:
    assert (
        f"{name} candidate went to the gate: on 80 documents held out for this choice, the estimated reward per "
        f"decision of PPO's differs by {difference}." in page_of(ppo=ppo(selected)).text
    )


def test_the_page_gives_what_the_golden_set_can_detect_and_what_the_feedback_says() -> None:
    page = usual()
    assert (
        "1,200 texts of golden show a gain of +0.032 in 4 of 5 cases, for two models that differ as much as these (95% "
        "confidence, one-sided). Texts needed: 12,288 for +0.01 and 492 for +0.05." in page.text
    )
    assert (
        "reward per decision differs by +0.031 from the champion's (standard error 0.020), over 412 judged" in page.text
    )


def test_without_ppo_the_page_gives_the_reason_and_has_no_ppo_curve() -> None:
    page = page_of(ppo=NO_PPO)
    assert "ℹ Note no PPO: it is switched off" in page.text
    assert "The supervised candidate went to the gate." in page.text
    assert "Supervised: loss: 1 at step 10, 0.05 at step 200" in charts(page)
    assert "PPO:" not in charts(page)


def test_the_curves_have_the_first_and_last_values_of_the_trainings() -> None:
    descriptions = charts(usual())
    assert "PPO: reward: 0.105 at step 1, 0.7 at step 100" in descriptions
    assert "PPO: distance from the supervised candidate: 0.0001 at step 1, 0.01 at step 100" in descriptions
    assert "PPO: effective sample size: 41 at step 1, 50 at step 100" in descriptions


def test_missing_terms_and_values_that_are_not_finite_are_not_drawn() -> None:
    points = [{"step": 1, "reward": float("nan")}, {"step": 2, "reward": 0.5}]
    descriptions = charts(page_of(ppo=ppo() | {"curve": points}, supervised={"curve": [], "notes": []}))
    assert "PPO: reward: 0.5 at step 2, 0.5 at step 2" in descriptions
    assert "KL" not in descriptions
    assert "loss" not in descriptions


def test_the_training_data_is_listed_with_the_versions_of_its_tables() -> None:
    page = usual()
    assert "Feedback on decisions of label set mail until 23 November 2026, 02:00 UTC." in page.text
    assert "2.0% of the decisions were explored" in page.text
    assert "signals about the pipeline's labels 5,321 of these late: about an earlier decision 12" in page.text
    assert "Feedback /lake/mail/feedback, version 12 Source /data/mail" in page.text
    assert "ℹ Note nothing is replayed" in page.text
    assert "on 600 other texts, the expected calibration error went from 0.080 to 0.030" in page.text


def test_hostile_names_are_escaped() -> None:
    hostile = verdict(comparison(SCRIPT, {SCRIPT: 0.5}, {SCRIPT: 0.25}), failed="min_f1_gain")
    hostile["findings"] = [{"rule": SCRIPT, "passed": False, "message": SCRIPT}]
    snapshot = facts().snapshot | {"label_set": {"name": SCRIPT}, "tables": {SCRIPT: {"path": SCRIPT, "version": 1}}}
    html = verdict_page(
        facts(model=SCRIPT, run_id=SCRIPT, verdict=hostile, snapshot=snapshot, ppo=NO_PPO | {"notes": [SCRIPT]})
    )
    assert check(html).text.count("<script>alert('x')</script>") >= 10
    assert "<script" not in html


@pytest.mark.filterwarnings("ignore:Glyph")
@example("\ud800\x00\u202e$x$")
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text(alphabet=st.characters(), max_size=30))
def test_any_label_name_gives_a_valid_page(name: str) -> None:
    page_of(verdict=verdict(comparison("golden", {name: 0.5, "spam": 0.5}, {name: 0.75})))


def test_the_policy_of_a_verdict_page_forbids_fetching_and_scripts() -> None:
    policy = [attributes["content"] for name, attributes in usual().tags if attributes.get("http-equiv")]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"]


def test_the_same_facts_give_the_same_page() -> None:
    assert verdict_page(facts()) == verdict_page(facts())


def test_the_page_is_written_from_the_files_that_the_steps_left(tmp_path: Path) -> None:
    written = facts()
    outcomes = {
        "snapshot/snapshot": written.snapshot,
        "supervised": written.supervised,
        "ppo": written.ppo,
        "calibrate": written.calibration,
        "gate": {
            "model": written.model,
            "run_id": written.run_id,
            "champion": written.champion,
            "candidate": written.candidate,
            **written.verdict,
        },
    }
    (tmp_path / "snapshot").mkdir()
    for name, outcome in outcomes.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(outcome), encoding="utf-8")
    page = write_verdict_page(tmp_path)
    assert page == tmp_path / "gate.html"
    assert page.read_text(encoding="utf-8") == verdict_page(written)
    assert not list(tmp_path.glob("*.tmp"))
    # As an earlier build wrote it.
    (tmp_path / "gate.json").write_text(json.dumps(written.verdict), encoding="utf-8")
    page_of_earlier = check(write_verdict_page(tmp_path).read_text(encoding="utf-8"))
    assert "unknown: the candidate is promoted" in page_of_earlier.text
    assert "Candidate unknown was compared with champion unknown on 1,200 texts of golden" in page_of_earlier.text
    assert "gliclass-spark rollback NAME" in page_of_earlier.text


def test_commands_quote_the_models_name() -> None:
    assert "gliclass-spark rollback 'mail; rm -rf x'" in page_of(model="mail; rm -rf x").text


@pytest.mark.parametrize(("verdict_", "word", "mark"), [(facts().verdict, "promoted", "✓"), (REFUSED, "refused", "✗")])
def test_the_terminal_shows_every_rule_every_gain_and_the_pages_path(
    verdict_: dict[str, Any], word: str, mark: str
) -> None:
    out = StringIO()
    hostile = verdict_ | {
        "findings": [*verdict_["findings"][:2], {"rule": "x", "passed": True, "message": "'[red]' lost"}]
    }
    show_verdict(Console(file=out, width=120), hostile, Path("retrain/run-1/gate.html"))
    output = " ".join(out.getvalue().split())
    assert f"│ {mark} │ max_label_loss │ max_label_loss: measured, limit" in output
    assert "'[red]' lost" in output
    assert f"The candidate is {word}." in output
    gain = "0.650 -> 0.717 │ +0.067 │ +0.047 to +0.097" if word == "promoted" else "0.750 -> 0.500 │ -0.250"
    assert gain in output
    assert "The page of the verdict: retrain/run-1/gate.html" in output
