"""The page of a verdict: it says what was decided and why, stands alone, and shows hostile names as text."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from retrainings import CANDIDATE, CHAMPION, NO_PPO, comparison, facts, ppo, verdict
from rich.console import Console
from test_page import SCRIPT, Page, check

from gliclass_spark.cli.output.retraining_output import show_verdict
from gliclass_spark.report import RetrainingFacts, verdict_page

REFUSED = verdict(comparison("golden", {"spam": 0.75}, {"spam": 0.5}), failed="max_label_loss")


@cache
def usual() -> Page:
    return check(verdict_page(facts()))


def of(**changed: Any) -> Page:
    return check(verdict_page(facts(**changed)))


def charts(page: Page) -> str:
    """What the charts say to those who don't see them."""
    return "\n".join(str(attributes["aria-label"]) for name, attributes in page.tags if name == "svg")


def test_a_promotion_is_told_first_with_both_digests_and_how_to_take_it_back() -> None:
    page = usual()
    assert "support_mail: the candidate is promoted" in page.text
    assert (
        f"Candidate {CANDIDATE[:12]} was compared with champion {CHAMPION[:12]} on 1,200 texts of golden and "
        "1,200 texts of newest feedback, which neither has learned from. It passes all 3 checks." in page.text
    )
    assert "✓ All rules are met" in page.text
    assert "gliclass-spark rollback support_mail" in page.text
    assert f"digest {CHAMPION}" in page.text
    assert f"digest {CANDIDATE}" in page.text


def test_a_refusal_is_told_first_with_the_rule_that_failed() -> None:
    page = of(verdict=REFUSED)
    assert "support_mail: the candidate is refused" in page.text
    assert "It fails 1 of 3 checks: the champion stays." in page.text
    assert "✕ max_label_loss max_label_loss: found, asked" in page.text
    assert "All rules are met" not in page.text
    assert "rollback" not in page.text
    assert "gliclass-spark promote support_mail" in page.text


def test_every_rule_has_its_row_with_its_mark() -> None:
    page = of(verdict=REFUSED)
    assert "✓ passed min_f1_gain min_f1_gain: found, asked" in page.text
    assert "✕ failed max_label_loss max_label_loss: found, asked" in page.text


def test_every_set_has_its_gain_with_its_interval_and_its_calibration() -> None:
    page = usual()
    row = "golden 1,200 0.650 → 0.717 +0.067 +0.047 to +0.097 0.080 → 0.050 88%"
    assert row in page.text
    assert "Gain +0.067, between +0.047 and +0.097" in charts(page)


def test_labels_are_drawn_from_the_greatest_loss_to_the_greatest_gain() -> None:
    told = "invoice: 0.75 → 0.70, 40 texts; spam: 0.70 → 0.70, 40 texts; complaint: 0.50 → 0.75, 40 texts"
    assert told in charts(usual())


def test_of_many_labels_those_that_changed_most_are_drawn() -> None:
    before = {f"label {number}": 0.2 for number in range(60)}
    after = {f"label {number}": 0.2 + number / 100 for number in range(60)}
    page = of(verdict=verdict(comparison("golden", before, after)))
    assert "the 25 of 60 labels that changed most" in page.text
    assert [number for number in range(60) if f"label {number}: " in charts(page)] == list(range(35, 60))


def test_a_label_that_one_model_alone_gave_and_no_text_has_is_drawn_with_a_dash() -> None:
    found = comparison("golden", {"complaint": 0.5}, {"complaint": 0.5, "spam": 0.0})
    found["label_texts"] |= {"spam": 0, "invoice": 0}
    told = charts(of(verdict=verdict(found)))
    assert "spam: – → 0.00, 0 texts" in told
    assert "invoice" not in told


def test_the_candidate_of_ppo_goes_on_for_its_higher_mean() -> None:
    page = usual()
    assert "PPO's candidate went to the gate: in the mean of the sets its macro-F1 is higher, 0.725 beside 0.650." in (
        page.text
    )
    assert "golden 0.700 0.750 newest feedback 0.600 0.700" in page.text


def test_the_supervised_candidate_goes_on_where_ppo_made_it_no_better() -> None:
    said = "The supervised candidate went to the gate: in the mean of the sets PPO's macro-F1 is no higher, "
    assert f"{said}0.650 beside 0.725." in of(ppo=ppo("supervised")).text


def test_without_ppo_the_page_says_why_and_shows_no_curve_of_it() -> None:
    page = of(ppo=NO_PPO)
    assert "ℹ Note no PPO: it is switched off" in page.text
    assert "The supervised candidate went to the gate: there is no other." in page.text
    assert "Supervised: loss: 1 at step 10, 0.05 at step 200" in charts(page)
    assert "PPO:" not in charts(page)


def test_the_curves_begin_and_end_where_the_trainings_did() -> None:
    told = charts(usual())
    assert "PPO: reward: 0.105 at step 1, 0.7 at step 100" in told
    assert "PPO: distance from the supervised candidate: 0.0001 at step 1, 0.01 at step 100" in told
    assert "PPO: effective sample size: 41 at step 1, 50 at step 100" in told


def test_a_term_that_was_switched_off_and_values_that_are_no_number_are_not_drawn() -> None:
    points = [{"step": 1, "reward": float("nan")}, {"step": 2, "reward": 0.5}]
    told = charts(of(ppo=ppo() | {"curve": points}, supervised={"curve": [], "notes": []}))
    assert "PPO: reward: 0.5 at step 2, 0.5 at step 2" in told
    assert "KL" not in told
    assert "loss" not in told


def test_what_was_learned_from_is_told_with_the_versions_of_its_tables() -> None:
    page = usual()
    assert "Feedback on decisions of label set mail , as it stood on 23 November 2026, 02:00 UTC." in page.text
    assert "2.0% of the decisions were explored" in page.text
    assert "signals about this label set 5,321 of these late: about an earlier decision 12" in page.text
    assert "Feedback /lake/mail/feedback, version 12 Source /data/mail" in page.text
    assert "ℹ Note nothing is replayed" in page.text
    assert "on 600 other texts, the expected error went from 0.080 to 0.030" in page.text


def test_names_are_shown_as_text_whatever_they_hold() -> None:
    hostile = verdict(comparison(SCRIPT, {SCRIPT: 0.5}, {SCRIPT: 0.25}), failed="min_f1_gain")
    hostile["findings"] = [{"rule": SCRIPT, "passed": False, "said": SCRIPT}]
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
def test_any_name_of_a_label_gives_a_sound_page(name: str) -> None:
    of(verdict=verdict(comparison("golden", {name: 0.5, "spam": 0.5}, {name: 0.75})))


def test_nothing_may_be_fetched_or_run_by_the_page_of_a_verdict() -> None:
    policy = [attributes["content"] for name, attributes in usual().tags if attributes.get("http-equiv")]
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"]


def test_the_same_facts_give_the_same_page_read_from_files_or_not() -> None:
    read = RetrainingFacts(**json.loads(json.dumps(asdict(facts()))))
    assert verdict_page(facts()) == verdict_page(facts()) == verdict_page(read)


def test_a_command_of_the_page_quotes_the_models_name() -> None:
    assert "gliclass-spark rollback 'mail; rm -rf x'" in of(model="mail; rm -rf x").text


@pytest.mark.parametrize(("given_", "word", "mark"), [(facts().verdict, "promoted", "✓"), (REFUSED, "refused", "✗")])
def test_the_terminal_shows_every_rule_every_gain_and_where_the_page_is(
    given_: dict[str, Any], word: str, mark: str
) -> None:
    out = StringIO()
    hostile = given_ | {"findings": [*given_["findings"][:2], {"rule": "x", "passed": True, "said": "'[red]' lost"}]}
    show_verdict(Console(file=out, width=120), hostile, Path("retrain/night-1/gate.html"))
    told = " ".join(out.getvalue().split())
    assert f"│ {mark} │ max_label_loss │ max_label_loss: found, asked" in told
    assert "'[red]' lost" in told
    assert f"The candidate is {word}." in told
    gain = "0.650 -> 0.717 │ +0.067 │ +0.047 to +0.097" if word == "promoted" else "0.750 -> 0.500 │ -0.250"
    assert gain in told
    assert "The page of the verdict: retrain/night-1/gate.html" in told
