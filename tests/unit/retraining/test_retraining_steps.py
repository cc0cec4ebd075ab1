"""Retraining from snapshot to registry: its steps, refused data, and idempotence."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from gliclass_spark.checkpoints.files import CALIBRATION
from gliclass_spark.checkpoints.registry import Registry
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.cli.app import main
from gliclass_spark.config.model_uri import CHALLENGER, CHAMPION, PREVIOUS
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.errors import ConfigError, GliclassSparkError, ModelNotFoundError, RegistryError, TrainingError
from gliclass_spark.labels import read_calibration
from gliclass_spark.report.verdict import write_verdict_page
from gliclass_spark.retraining.promotion import open_retraining, publish
from gliclass_spark.retraining.steps import Retraining

KINDS = ("cat", "dog", "owl")
LENIENT = {
    "max_f1_loss": 1.0,
    "max_label_loss": 1.0,
    "max_calibration_loss": 1.0,
    "max_reward_loss": 1.0,
    "max_slowdown": 1000.0,
}
STRICT = {**LENIENT, "min_f1_gain": 1.0}
WriteConfig = Callable[..., RetrainConfig]


@pytest.fixture
def champion(registry: Registry, tiny_label_cached_model: str) -> str:
    """The digest of the champion of the model "pets"."""
    with registry.run("pets", "first", {}) as tracked:
        version = registry.register("pets", Path(tiny_label_cached_model), tracked.run_id)
    return registry.promote("pets", str(version.number)).digest


@pytest.fixture
def write_config(tmp_path: Path) -> WriteConfig:
    """Writes a configuration with these keys, its golden set, and the snapshot of the retraining "r"."""

    def of(
        rows: list[dict[str, Any]] | None = None, golden: dict[str, str] | None = None, **keys: Any
    ) -> RetrainConfig:
        pipeline = {
            "name": "pets",
            "source": {"path": "documents", "id": "id", "text": "text"},
            "label_set": list(KINDS),
            "model": "models:/pets@champion",
            "tables": "lake",
        }
        (tmp_path / "pets.yaml").write_text(yaml.safe_dump(pipeline))
        truth = golden or {f"the golden {kind} {number}": kind for number in range(10) for kind in KINDS}
        pq.write_table(
            pa.table({"text": list(truth), "labels": [[label] for label in truth.values()]}),
            tmp_path / "golden.parquet",
        )
        document = {
            "pipeline": "pets.yaml",
            "golden": "golden.parquet",
            "work": "work",
            "min_decisions": 10,
            "supervised": {"steps": 3, "texts": 4, "max_weight": None},
            "ppo": {"steps": 3, "texts": 4},
            "gate": LENIENT,
            **keys,
        }
        (tmp_path / "retrain.yaml").write_text(yaml.safe_dump(document))
        config = RetrainConfig.from_yaml(tmp_path / "retrain.yaml")
        write_snapshot(config, "r", rows if rows is not None else decisions())
        return config

    return of


def decisions() -> list[dict[str, Any]]:
    """Return decisions by chance of 1/2, each rewarded if it was right."""
    return [
        {
            "doc_id": f"{number}",
            "text": f"a {KINDS[number % 3]} {number}",
            "label": label,
            "target": int(label == KINDS[number % 3]),
            "reward": 1.0 if (label == KINDS[number % 3]) == (number % 2 == 0) else -1.0,
            "chosen": number % 2 == 0,
            "propensity": 0.5,
            "score": 0.5,
            "held_out": number >= 20,
        }
        for number in range(30)
        for label in KINDS
    ]


def write_snapshot(config: RetrainConfig, run_id: str, rows: list[dict[str, Any]]) -> None:
    folder = config.run_folder(run_id) / "snapshot"
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "feedback.parquet")
    label_set = json.loads(config.pipeline.label_set.canonical_json)
    tables = {"feedback": {"path": "lake/feedback", "version": 3}}
    about = {
        "label_set": label_set,
        "tables": tables,
        "counts": {"rows": len(rows)},
        "exploration": 0.5,
        "created_at": "2026-01-01T00:00:00",
    }
    (folder / "snapshot.json").write_text(json.dumps(about))


def opened(config: RetrainConfig, run_id: str = "r") -> Retraining:
    return open_retraining(config, run_id, lambda step, updates, metrics: None)


def aliases(registry: Registry) -> dict[str, int]:
    return {alias: version.number for version in registry.versions("pets") for alias in version.aliases}


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


def test_an_outcome_counts_only_for_its_settings(champion: str, write_config: WriteConfig) -> None:
    config = write_config()
    verdict = opened(config).gate()
    changes: list[tuple[str, dict[str, Any]]] = [
        ("supervised", {"supervised": config.supervised.model_copy(update={"steps": 2})}),
        ("ppo", {"ppo": None}),
        ("gate", {"gate": config.gate.model_copy(update={"min_f1_gain": 1.0})}),
        ("seed", {"seed": 7}),
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


def with_equal(reward: float | None, target: int | None) -> list[dict[str, Any]]:
    return [{**row, "reward": reward, "target": target} for row in decisions()]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": decisions()[:6]}, "6 decisions are judged or rewarded, 10 are needed"),
        ({"rows": with_equal(None, 1)}, "all 60 judgements say that a label holds, so there is nothing to tell apart"),
        ({"rows": with_equal(None, 0)}, "all 60 judgements say that a label does not hold"),
        ({"golden": {"a mouse": "mouse", "the golden cat": "cat"}}, "1 label.s. that 'pets' lacks: mouse"),
        (
            {"replay": ["golden.parquet"]},
            "replay: all 30 texts of golden are texts of the golden set or of a retention",
        ),
    ],
)
def test_unusable_data_is_refused_before_any_training(
    changes: dict[str, Any], message: str, champion: str, write_config: WriteConfig
) -> None:
    config = write_config(**changes)
    with pytest.raises(TrainingError, match=message):
        opened(config).supervised()
    assert sorted(path.name for path in config.run_folder("r").iterdir()) == ["champion.json", "snapshot"]


def test_texts_of_the_golden_set_and_near_duplicates_stay_out_of_the_training(
    champion: str, write_config: WriteConfig
) -> None:
    original = "a long report on a cat that sat on a mat beside the river and slept until noon"
    rows = decisions()
    for row in rows:
        row["text"] = {"0": original + ", again", "1": "A  dog 1"}.get(row["doc_id"], row["text"])
    golden = {original: "cat", "a dog 1": "dog", "the golden owl": "owl"}
    data = opened(write_config(rows, golden)).data
    assert not {original + ", again", "A  dog 1"} & set(data.training.texts)
    assert len(data.training) == 18
    assert data.notes[0].startswith("2 texts are left out of the training: they are texts of the golden set or of a")


def test_equal_rewards_leave_ppo_the_judgements(champion: str, write_config: WriteConfig) -> None:
    rows = [{**row, "reward": 1.0} for row in decisions()]
    retraining = opened(write_config(rows, ppo={"steps": 4, "texts": 4, "logged_share": 1.0}))
    assert any(note.startswith("all rewards are equal: PPO trains on judgements") for note in retraining.data.notes)
    assert all("reward" in point and "logged_reward" not in point for point in retraining.ppo()["curve"])


def test_equal_rewards_of_given_labels_teach_ppo_if_not_giving_is_worth_0(
    champion: str, write_config: WriteConfig
) -> None:
    rows = [
        {**row, "target": None, "reward": -0.6 if row["chosen"] else None} if row["label"] == "owl" else row
        for row in decisions()
    ]
    rows = [{**row, "reward": None} if row["label"] != "owl" else row for row in rows]
    config = write_config(rows, ppo={"steps": 4, "texts": 4, "logged_share": 1.0, "not_given": "zero"})
    retraining = opened(config)
    assert not any("all rewards are equal" in note for note in retraining.data.notes)
    assert all("logged_reward" in point for point in retraining.ppo()["curve"])


def test_by_default_judgements_weigh_alike(champion: str, write_config: WriteConfig) -> None:
    notes = opened(write_config(supervised={"steps": 3, "texts": 4})).data.notes
    assert notes[0] == (
        "60 judgements, 0 of them of explored decisions, weigh alike, apart from the size of their rewards "
        "(max_weight: 1)"
    )


def test_a_propensity_that_contradicts_its_decision_is_reported(champion: str, write_config: WriteConfig) -> None:
    rows = [{**row, "propensity": 0.0} if row["doc_id"] in ("0", "2") else row for row in decisions()]
    notes = opened(write_config(rows)).data.notes
    assert notes[0].startswith("6 decisions were made although their propensity says that they could not be")


def test_without_exploration_a_note_states_the_limits(champion: str, write_config: WriteConfig) -> None:
    rows = [{**row, "propensity": None} for row in decisions()]
    [exploration, replay] = opened(write_config(rows)).data.notes
    assert "all decisions were made by thresholds" in exploration
    assert "nothing is replayed" in replay


def test_a_golden_folder_of_several_tables_is_refused(champion: str, write_config: WriteConfig, tmp_path: Path) -> None:
    config, folder = write_config(), tmp_path / "both"
    folder.mkdir()
    for name in ("one", "two"):
        shutil.copy(tmp_path / "golden.parquet", folder / f"{name}.parquet")
    with pytest.raises(TrainingError, match=r"holds 2 tables \(one, two\); give the path of one of them"):
        opened(config.model_copy(update={"golden": str(folder)})).supervised()


def test_without_held_out_feedback_a_note_says_so(champion: str, write_config: WriteConfig) -> None:
    rows = [{**row, "text": "a cat 0"} if row["held_out"] else row for row in decisions()]
    retraining = opened(write_config(rows))
    assert any("the gate has the golden set alone" in note for note in retraining.data.notes)
    assert [each["name"] for each in retraining.gate()["comparisons"]] == ["golden"]


def test_a_held_out_copy_of_a_training_text_is_left_out(champion: str, write_config: WriteConfig) -> None:
    rows = [{**row, "text": "a CAT  0"} if row["doc_id"] == "20" else row for row in decisions()]
    assert len(opened(write_config(rows)).data.held_out) == 9


@pytest.mark.parametrize("step", [[], ["--step", "snapshot"], ["--step", "promote"]])
def test_steps_that_processes_do_not_share_are_refused_under_torchrun(
    step: list[str],
    write_config: WriteConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = write_config().run_folder("r")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["retrain", str(tmp_path / "retrain.yaml"), "--run-id", "r", *step]) == 2
    assert "torchrun's processes share only the steps supervised and ppo" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["snapshot"]


def test_a_retraining_needs_a_snapshot_and_a_champion(registry: Registry, write_config: WriteConfig) -> None:
    config = write_config()
    with pytest.raises(ModelNotFoundError):
        opened(config)
    shutil.rmtree(config.run_folder("r"))
    with pytest.raises(ConfigError, match="holds no snapshot; run the step 'snapshot'"):
        opened(config)


def test_a_pipeline_that_does_not_follow_its_champion_is_refused_with_the_fix(
    write_config: WriteConfig, tmp_path: Path
) -> None:
    write_config()
    pipeline = yaml.safe_load((tmp_path / "pets.yaml").read_text())
    (tmp_path / "pets.yaml").write_text(yaml.safe_dump({**pipeline, "model": "embedded"}))
    with pytest.raises(GliclassSparkError, match="write model: models:/pets@champion there"):
        RetrainConfig.from_yaml(tmp_path / "retrain.yaml")


def test_airflow_can_t_retrain_on_feedback_whose_place_the_catalog_alone_knows(
    write_config: WriteConfig, tmp_path: Path
) -> None:
    write_config(airflow={"cron": "0 3 * * 0"})
    pipeline = yaml.safe_load((tmp_path / "pets.yaml").read_text())
    (tmp_path / "pets.yaml").write_text(yaml.safe_dump({**pipeline, "tables": {"schema": "main.pets"}}))
    with pytest.raises(ConfigError, match=r"'airflow' needs a 'location' beside the schema main\.pets in 'tables'"):
        RetrainConfig.from_yaml(tmp_path / "retrain.yaml")


def test_an_old_key_is_refused_with_its_new_name(write_config: WriteConfig) -> None:
    with pytest.raises(ConfigError, match=r"retrain.yaml: .*the key 'remembered' is now 'retention'; rename it"):
        write_config(remembered=["colours.parquet"])
