"""Retraining from snapshot to registry: its steps, and idempotence."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pets_retraining import LENIENT, STRICT, WriteConfig, aliases, decisions, opened
from written_runs import manifest, write_runs

from gliclass_spark.checkpoints.digest import digest_of
from gliclass_spark.checkpoints.files import CALIBRATION
from gliclass_spark.checkpoints.registry import Registry
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.config.model_uri import CHALLENGER, CHAMPION, PREVIOUS
from gliclass_spark.config.retraining import FeedbackRules
from gliclass_spark.errors import ConfigError, RegistryError
from gliclass_spark.labels import read_calibration
from gliclass_spark.report.verdict import write_verdict_page
from gliclass_spark.retraining.promotion import publish


def test_a_candidate_that_passes_is_promoted_and_the_next_run_uses_it(
    registry: Registry, champion: str, write_config: WriteConfig
) -> None:
    config = write_config()
    version = publish(config, opened(config))
    assert aliases(registry) == {CHAMPION: 2, PREVIOUS: 1}
    promoted = resolve_model(config.pipeline.model)
    assert promoted.digest == version.digest != champion
    calibration = read_calibration(promoted.folder / CALIBRATION, config.pipeline.label_set)
    assert calibration is not None, "the calibration is part of the version"
    assert calibration.hash != config.pipeline.label_set.hash
    registry.rollback("pets")
    assert not (resolve_model(config.pipeline.model).folder / CALIBRATION).exists()
    assert version.tags["verdict"] == "promoted"
    metrics = registry._client.get_run(str(version.run_id)).data
    assert metrics.tags["data.feedback"] == "lake/feedback@3"
    digest = hashlib.sha256(Path(config.golden).read_bytes()).hexdigest()
    digest = hashlib.sha256(f"golden.parquet {digest}\n".encode()).hexdigest()
    assert metrics.tags["data.golden"] == f"{config.golden}@{digest}"
    assert metrics.tags["champion"] == champion
    assert metrics.params["ppo.clip_ratio"] == "0.2"
    assert {
        "golden.macro_f1",
        "newest_feedback.reward_difference",
        "ppo.reward",
        "calibration.after",
    } <= metrics.metrics.keys()
    # Each was decided by chance of 1/2: all weights are equal.
    evidence = {
        name: metrics.metrics[f"evidence.{name}"] for name in ("judgements", "effective_sample_size", "clipped")
    }
    assert evidence == {"judgements": 60, "effective_sample_size": 60, "clipped": 0}
    assert opened(config).data.notes[0] == (
        "60 judgements, 0 of them of explored decisions, have an effective sample size of 60 under inverse-propensity "
        "weights; 0 weights are clipped to 2"
    )
    history = registry._client.get_metric_history(str(version.run_id), "ppo.kl")
    assert [point.step for point in history] == [1, 2, 3]


def test_forgetting_of_other_labels_is_reported_and_can_refuse_a_candidate(
    registry: Registry, champion: str, write_config: WriteConfig, tmp_path: Path
) -> None:
    colours = {"it is red": "red", "it is green": "green", "as red as can be": "red", "a green one": "green"}
    labels = [[label] for label in colours.values()]
    pq.write_table(pa.table({"text": list(colours), "labels": labels}), tmp_path / "colours.parquet")
    config = write_config(retention=["colours.parquet"], gate={**LENIENT, "max_forgetting": 0.0})
    version = publish(config, opened(config))
    verdict = opened(config).gate()
    [forgetting] = verdict["forgetting"]
    assert (forgetting["name"], forgetting["texts"]) == ("colours", 4)
    [finding] = [each for each in verdict["findings"] if each["rule"] == "max_forgetting"]
    assert finding["passed"] == (forgetting["candidate"] >= forgetting["champion"]) == verdict["promoted"]
    assert "macro-F1 on colours, which is not trained on" in finding["message"]
    metrics = registry._client.get_run(str(version.run_id)).data.metrics
    assert metrics["forgetting.colours"] == pytest.approx(forgetting["champion"] - forgetting["candidate"])


def test_the_page_of_the_verdict_is_written_from_the_files_of_the_steps(
    champion: str, write_config: WriteConfig
) -> None:
    retraining = opened(write_config())
    verdict = retraining.gate()
    write_verdict_page(retraining.folder)
    page = (retraining.folder / "gate.html").read_text(encoding="utf-8")
    assert f"pets: the candidate is {'promoted' if verdict['promoted'] else 'refused'}" in page
    assert champion in page
    assert all(f"<code>{finding['rule']}</code>" in page for finding in verdict["findings"])


def test_a_candidate_that_is_refused_is_kept_as_the_challenger(
    registry: Registry, champion: str, write_config: WriteConfig
) -> None:
    config = write_config(gate=STRICT)
    version = publish(config, opened(config))
    assert aliases(registry) == {CHAMPION: 1, CHALLENGER: 2}
    assert resolve_model(config.pipeline.model).digest == champion
    assert version.tags["verdict"] == "refused"


def test_without_ppo_the_supervised_candidate_goes_to_the_gate(champion: str, write_config: WriteConfig) -> None:
    retraining = opened(write_config(ppo=None))
    assert retraining.ppo()["notes"] == ["no PPO: it is switched off"]
    assert retraining.candidate.name == "supervised"
    assert retraining.gate()["promoted"]


def test_the_candidate_is_chosen_on_feedback_that_the_gate_does_not_judge_on(
    champion: str, write_config: WriteConfig
) -> None:
    retraining = opened(write_config())
    difference = retraining.ppo()["reward_difference"]
    assert retraining.candidate.name == ("ppo" if difference["difference"] > 0 else "supervised")
    verdict = retraining.gate()
    # Ten documents are held out, with three decisions each.
    assert (difference["documents"], verdict["reward"]["documents"]) == (5, 5)
    assert [each["name"] for each in verdict["comparisons"]] == ["golden"]
    chosen_by, judged_on = retraining.data.split_held_out(seed=0)
    assert not set(chosen_by.texts) & set(judged_on.texts)
    without_ppo = opened(write_config(ppo=None, work="other"))
    assert without_ppo.gate()["reward"]["documents"] == 10


def test_without_feedback_to_choose_by_the_supervised_candidate_goes_to_the_gate(
    champion: str, write_config: WriteConfig
) -> None:
    rows = [{**row, "target": None, "reward": None} if row["held_out"] else row for row in decisions()]
    outcome = opened(write_config(rows)).ppo()
    assert (outcome["candidate"], outcome["reward_difference"]) == ("supervised", None)
    assert "no held-out feedback says which one is better" in outcome["notes"][0]


def test_finished_steps_are_not_repeated_and_a_killed_one_continues(champion: str, write_config: WriteConfig) -> None:
    config = write_config()
    first = opened(config)
    first.gate()
    kept = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*") if path.is_file()}
    opened(config).gate()
    assert {path: path.stat().st_mtime_ns for path in first.folder.rglob("*") if path.is_file()} == kept
    # As after a kill behind the calibration.
    (first.folder / "gate.json").unlink()
    before = first.calibrate()
    assert opened(config).gate()["findings"]
    assert opened(config).calibrate() == before


@pytest.mark.parametrize("step", ["supervised", "ppo"])
def test_a_killed_training_whose_settings_changed_meanwhile_starts_over_with_one_line(
    step: str, champion: str, write_config: WriteConfig, caplog: pytest.LogCaptureFixture
) -> None:
    config = write_config(ppo={"steps": 3, "texts": 4, "save_steps": 1})
    settings = getattr(config, step)
    changed = config.model_copy(update={step: settings.model_copy(update={"head_lr": settings.head_lr * 10})})
    killed, other = opened(config), opened(changed)
    getattr(killed, step)()
    # As after a kill behind the last checkpoint, before the outcome.
    (killed.folder / f"{step}.json").unlink()
    if step == "supervised":
        getattr(opened(config), step)()
        assert not warnings_of(caplog), "with the same settings it continues"
        (killed.folder / f"{step}.json").unlink()
    before = digest_of(killed.folder / step)
    getattr(other, step)()
    assert digest_of(killed.folder / step) != before, "it has trained, by the settings that it has now"
    assert warnings_of(caplog) == [
        f"{step}: settings, data or the model to start from changed since it was stopped, so it starts over"
    ]
    assert len(list((killed.folder / step / "steps").iterdir())) == 1


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    # Not record.message: the formatter that PySpark's logger gives to handlers leaves it out.
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_an_outcome_counts_only_for_its_settings(champion: str, write_config: WriteConfig) -> None:
    config = write_config()
    verdict = opened(config).gate()
    changes: list[tuple[str, dict[str, Any]]] = [
        ("supervised", {"supervised": config.supervised.model_copy(update={"steps": 2})}),
        ("ppo", {"ppo": None}),
        ("gate", {"gate": config.gate.model_copy(update={"min_f1_gain": 1.0})}),
        ("seed", {"seed": 7}),
        ("feedback", {"feedback": FeedbackRules(resolve="majority")}),
        ("golden", {"golden": config.golden.replace("golden", "other")}),
    ]
    for key, change in changes:
        with pytest.raises(ConfigError) as refused:
            opened(config.model_copy(update=change)).gate()
        assert str(refused.value) == (
            f"{config.run_folder('r')}/gate.json: this retraining did its step 'gate' with another {key!r}; retrain "
            "under a new run id, or bring the earlier settings back"
        )
    # What an outcome does not follow from may change; steps that are not done yet take the new settings.
    gate = config.gate.model_copy(update={"min_f1_gain": 1.0})
    other = opened(config.model_copy(update={"gate": gate, "min_decisions": 11}))
    other.calibrate()
    (other.folder / "gate.json").unlink()
    assert (verdict["promoted"], other.gate()["promoted"]) == (True, False)


def test_a_retraining_keeps_the_champion_that_it_started_with(
    registry: Registry, champion: str, write_config: WriteConfig, other_tiny_model: str
) -> None:
    config = write_config()
    retraining = opened(config)
    with registry.run("pets", "other", {}) as tracked:
        other = registry.register("pets", Path(other_tiny_model), tracked.run_id)
    registry.promote("pets", str(other.number))
    assert opened(config).champion.digest == retraining.champion.digest == champion
    with pytest.raises(RegistryError, match=r"the champion of 'pets' is now version 2 .* retrain again, under a new"):
        publish(config, retraining)


def test_a_promotion_that_was_rolled_back_is_not_repeated(
    registry: Registry, champion: str, write_config: WriteConfig
) -> None:
    config = write_config()
    publish(config, opened(config))
    registry.rollback("pets")
    for _ in ("after the promotion", "after a promotion that was killed before it was recorded as done"):
        publish(config, opened(config))
        assert aliases(registry) == {CHAMPION: 1, PREVIOUS: 2}
        (config.run_folder("r") / "promote.json").unlink()


def test_a_candidate_is_registered_once_even_if_the_promotion_was_killed(
    registry: Registry, champion: str, write_config: WriteConfig
) -> None:
    config = write_config()
    publish(config, opened(config))
    (config.run_folder("r") / "promote.json").unlink()
    publish(config, opened(config))
    assert [version.number for version in registry.versions("pets")] == [1, 2]
    assert aliases(registry) == {CHAMPION: 2, PREVIOUS: 1}


def test_a_candidate_waits_for_a_shadow_run_if_the_gate_asks_for_one(
    registry: Registry, champion: str, write_config: WriteConfig, tmp_path: Path
) -> None:
    config = write_config(gate={**LENIENT, "shadow": True}, ppo=None)
    retraining = opened(config)
    candidate = publish(config, retraining)
    assert aliases(registry) == {CHAMPION: 1, CHALLENGER: 2}
    recorded = json.loads((retraining.folder / "promote.json").read_text())
    assert recorded == {"version": 2, "promoted": False, "waits_for_shadow": True}
    by_another = replace(manifest("tag"), pipeline="pets", job="shadow", model_digest="0" * 64)
    write_runs(tmp_path, [by_another])
    assert publish(config, retraining).aliases == (CHALLENGER,)
    write_runs(tmp_path, [replace(by_another, model_digest=candidate.digest, sequence=2)])
    for _ in range(2):
        assert publish(config, retraining).aliases == (CHAMPION,)
    assert aliases(registry) == {CHAMPION: 2, PREVIOUS: 1}


def test_a_candidate_whose_registration_was_killed_becomes_the_challenger(
    registry: Registry, champion: str, write_config: WriteConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(gate=STRICT)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Registry, "set_challenger", killed)
        with pytest.raises(KeyboardInterrupt):
            publish(config, opened(config))
    assert aliases(registry) == {CHAMPION: 1}
    assert publish(config, opened(config)).number == 2
    assert aliases(registry) == {CHAMPION: 1, CHALLENGER: 2}
