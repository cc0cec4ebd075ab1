"""Data and configurations that a retraining refuses, leaves out or notes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from pets_retraining import WriteConfig, decisions, opened, rewarded_documents, write_documents

from gliclass_spark.checkpoints.registry import Registry
from gliclass_spark.cli.app import main
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.errors import ConfigError, GliclassSparkError, ModelNotFoundError, TrainingError


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


def test_without_rewards_ppo_is_left_the_judgements(champion: str, write_config: WriteConfig) -> None:
    rows = [{**row, "reward": None} for row in decisions()]
    retraining = opened(write_config(rows, ppo={"steps": 4, "texts": 4, "logged_share": 1.0}))
    assert "no decision has a reward: PPO trains on judgements alone" in retraining.data.notes
    assert all("reward" in point and "logged_reward" not in point for point in retraining.ppo()["curve"])


def test_feedback_on_deleted_documents_alone_is_refused(champion: str, write_config: WriteConfig) -> None:
    with pytest.raises(TrainingError, match="0 decisions are judged or rewarded, 10 are needed"):
        opened(write_config([])).supervised()


def test_verdicts_on_equal_texts_that_contradict_each_other_are_noted(champion: str, write_config: WriteConfig) -> None:
    rows = decisions()
    for row in rows:
        row["text"] = {"0": "the same  text", "1": "The same text"}.get(row["doc_id"], row["text"])
    notes = opened(write_config(rows)).data.notes
    assert any(note.startswith("4 verdicts on labels of equal texts contradict each other") for note in notes)
    assert not any("contradict" in note for note in opened(write_config(work="other")).data.notes)


def test_rewards_of_documents_alone_train_both_steps_and_choose_the_candidate(
    champion: str, write_config: WriteConfig
) -> None:
    config = write_config([], min_decisions=15, ppo={"steps": 4, "texts": 4, "logged_share": 1.0})
    write_documents(config, rewarded_documents())
    retraining = opened(config)
    assert len(retraining.data.training) == 20
    outcome = retraining.ppo()
    assert all("logged_reward" in point for point in outcome["curve"])
    assert outcome["reward_difference"]["documents"] == 5
    assert any("no feedback is held out: the gate has" in note for note in retraining.data.notes), "it judges labels"
    without = opened(config.model_copy(update={"ppo": None}))
    assert any(note.startswith("20 documents have one reward for all of their") for note in without.data.notes)
    too_few = opened(config.model_copy(update={"min_decisions": 21}))
    with pytest.raises(TrainingError, match="20 decisions are judged or rewarded, 21 are needed"):
        _ = too_few.data


def test_documents_that_were_all_rejected_are_refused(champion: str, write_config: WriteConfig) -> None:
    config = write_config([], min_decisions=15)
    write_documents(config, [{**document, "reward": -1.0} for document in rewarded_documents()])
    with pytest.raises(TrainingError, match="no document is judged, and there is nothing to replay"):
        opened(config).supervised()


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


def test_training_on_new_feedback_alone_is_about_a_whole_retraining(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["retrain", "none.yaml", "--if-new-feedback", "--run-id", "r", "--step", "gate"]) == 2
    assert "give it without --step gate" in " ".join(capsys.readouterr().err.split())


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
