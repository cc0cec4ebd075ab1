"""A retraining from its snapshot to the registry: its steps, what stops it, and what it never does twice."""

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

from gliclass_spark.checkpoints.registry import Registry
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.cli.app import main
from gliclass_spark.config.model_uri import CHALLENGER, CHAMPION, PREVIOUS
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.errors import ConfigError, GliclassSparkError, ModelNotFoundError, RegistryError, TrainingError
from gliclass_spark.retraining.promotion import publish, retraining
from gliclass_spark.retraining.steps import Retraining

KINDS = ("cat", "dog", "owl")
LENIENT = {
    "min_f1_gain": -1.0,
    "max_label_loss": 1.0,
    "max_calibration_loss": 1.0,
    "max_slowdown": 1000.0,
}
STRICT = {**LENIENT, "min_f1_gain": 1.0}
Written = Callable[..., RetrainConfig]


@pytest.fixture
def champion(registry: Registry, tiny_label_cached_model: str) -> str:
    """The digest of the champion of the model "pets"."""
    with registry.run("pets", "first", {}) as tracked:
        version = registry.register("pets", Path(tiny_label_cached_model), tracked.run_id)
    return registry.promote("pets", str(version.number)).digest


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """`written(rows, golden, **keys)`: a configuration, its golden set, and the snapshot of the retraining "r"."""

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
            "supervised": {"steps": 3, "texts": 4},
            "ppo": {"steps": 3, "texts": 4},
            "gate": LENIENT,
            **keys,
        }
        (tmp_path / "retrain.yaml").write_text(yaml.safe_dump(document))
        config = RetrainConfig.from_yaml(tmp_path / "retrain.yaml")
        take(config, "r", rows if rows is not None else decisions())
        return config

    return of


def decisions() -> list[dict[str, Any]]:
    """Half of the labels were given by chance, and each decision was rewarded if it was right."""
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


def take(config: RetrainConfig, run_id: str, rows: list[dict[str, Any]]) -> None:
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


def begun(config: RetrainConfig, run_id: str = "r") -> Retraining:
    return retraining(config, run_id, lambda step, at, metrics: None)


def aliases(registry: Registry) -> dict[str, int]:
    return {alias: version.number for version in registry.versions("pets") for alias in version.aliases}


def test_a_candidate_that_passes_is_promoted_and_the_next_run_takes_it(
    registry: Registry, champion: str, written: Written
) -> None:
    config = written()
    version = publish(config, "r", begun(config))
    assert aliases(registry) == {CHAMPION: 2, PREVIOUS: 1}
    assert resolve_model(config.pipeline.model).digest == version.digest != champion
    assert version.tags["verdict"] == "promoted"
    metrics = registry._client.get_run(str(version.run_id)).data
    assert metrics.tags["data.feedback"] == "lake/feedback@3"
    digest = hashlib.sha256(Path(config.golden).read_bytes()).hexdigest()
    digest = hashlib.sha256(f"golden.parquet {digest}\n".encode()).hexdigest()
    assert metrics.tags["data.golden"] == f"{config.golden}@{digest}"
    assert metrics.tags["champion"] == champion
    assert metrics.params["ppo.clip_ratio"] == "0.2"
    assert {"golden.macro_f1", "newest_feedback.macro_f1", "ppo.reward", "calibration.after"} <= metrics.metrics.keys()
    # Each was decided by chance of a half: all weigh the same, as many as they are.
    evidence = {
        name: metrics.metrics[f"evidence.{name}"] for name in ("judgements", "effective_sample_size", "clipped")
    }
    assert evidence == {"judgements": 60, "effective_sample_size": 60, "clipped": 0}
    assert begun(config).material.notes[0] == (
        "60 judgements, weighed by the inverse of their propensity, say as much as 60 of equal weight would; 0 are "
        "held to max_weight 10"
    )
    history = registry._client.get_metric_history(str(version.run_id), "ppo.kl")
    assert [point.step for point in history] == [1, 2, 3]


def test_what_was_forgotten_of_other_labels_is_told_and_can_refuse_a_candidate(
    registry: Registry, champion: str, written: Written, tmp_path: Path
) -> None:
    colours = {"it is red": "red", "it is green": "green", "as red as can be": "red", "a green one": "green"}
    labels = [[label] for label in colours.values()]
    pq.write_table(pa.table({"text": list(colours), "labels": labels}), tmp_path / "colours.parquet")
    config = written(remembered=["colours.parquet"], gate={**LENIENT, "max_forgetting": 0.0})
    version = publish(config, "r", begun(config))
    verdict = begun(config).gate()
    [forgotten] = verdict["forgotten"]
    assert (forgotten["name"], forgotten["texts"]) == ("colours", 4)
    [finding] = [each for each in verdict["findings"] if each["rule"] == "max_forgetting"]
    assert finding["passed"] == (forgotten["candidate"] >= forgotten["champion"]) == verdict["promoted"]
    assert "macro-F1 on colours, which nothing was learned from" in finding["said"]
    metrics = registry._client.get_run(str(version.run_id)).data.metrics
    assert metrics["forgotten.colours"] == pytest.approx(forgotten["champion"] - forgotten["candidate"])


def test_a_gate_that_is_done_has_left_its_page(champion: str, written: Written) -> None:
    work = begun(written())
    verdict = work.gate()
    page = (work.folder / "gate.html").read_text(encoding="utf-8")
    assert f"pets: the candidate is {'promoted' if verdict['promoted'] else 'refused'}" in page
    assert champion in page
    assert all(f"<code>{finding['rule']}</code>" in page for finding in verdict["findings"])


def test_a_candidate_that_is_refused_is_kept_as_the_challenger(
    registry: Registry, champion: str, written: Written
) -> None:
    config = written(gate=STRICT)
    version = publish(config, "r", begun(config))
    assert aliases(registry) == {CHAMPION: 1, CHALLENGER: 2}
    assert resolve_model(config.pipeline.model).digest == champion
    assert version.tags["verdict"] == "refused"


def test_without_ppo_the_supervised_candidate_goes_to_the_gate(champion: str, written: Written) -> None:
    done = begun(written(ppo=None))
    assert done.ppo()["notes"] == ["no PPO: it is switched off"]
    assert done.candidate.name == "supervised"
    assert done.gate()["promoted"]


def test_the_better_one_of_the_two_candidates_goes_to_the_gate(champion: str, written: Written) -> None:
    done = begun(written())
    scores = {name: sum(each.values()) for name, each in done.ppo()["macro_f1"].items()}
    expected = "ppo" if scores["ppo"] > scores["supervised"] else "supervised"
    assert done.candidate.name == expected


def test_steps_that_are_done_are_not_done_again_and_a_killed_one_goes_on(champion: str, written: Written) -> None:
    config = written()
    first = begun(config)
    first.gate()
    kept = {path: path.stat().st_mtime_ns for path in first.folder.rglob("*") if path.is_file()}
    begun(config).gate()
    assert {path: path.stat().st_mtime_ns for path in first.folder.rglob("*") if path.is_file()} == kept
    # What a kill behind the calibration leaves.
    (first.folder / "gate.json").unlink()
    before = first.calibrate()
    assert begun(config).gate()["findings"]
    assert begun(config).calibrate() == before


def test_the_champion_stays_the_one_that_a_retraining_began_with(
    registry: Registry, champion: str, written: Written, other_tiny_model: str
) -> None:
    config = written()
    done = begun(config)
    with registry.run("pets", "other", {}) as tracked:
        other = registry.register("pets", Path(other_tiny_model), tracked.run_id)
    registry.promote("pets", str(other.number))
    assert begun(config).champion.digest == done.champion.digest == champion
    with pytest.raises(RegistryError, match=r"the champion of 'pets' is now version 2 .* retrain again, under a new"):
        publish(config, "r", done)


def test_a_promotion_that_was_rolled_back_is_not_repeated(registry: Registry, champion: str, written: Written) -> None:
    config = written()
    publish(config, "r", begun(config))
    registry.rollback("pets")
    publish(config, "r", begun(config))
    assert aliases(registry) == {CHAMPION: 1, PREVIOUS: 2}


def test_a_candidate_is_registered_once_even_if_the_promotion_was_killed(
    registry: Registry, champion: str, written: Written
) -> None:
    config = written()
    publish(config, "r", begun(config))
    (config.run_folder("r") / "promote.json").unlink()
    publish(config, "r", begun(config))
    assert [version.number for version in registry.versions("pets")] == [1, 2]
    assert aliases(registry) == {CHAMPION: 2, PREVIOUS: 1}


def test_a_candidate_whose_registration_was_killed_becomes_the_challenger(
    registry: Registry, champion: str, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = written(gate=STRICT)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Registry, "set_challenger", killed)
        with pytest.raises(KeyboardInterrupt):
            publish(config, "r", begun(config))
    assert aliases(registry) == {CHAMPION: 1}
    assert publish(config, "r", begun(config)).number == 2
    assert aliases(registry) == {CHAMPION: 1, CHALLENGER: 2}


def alike(reward: float | None, target: int | None) -> list[dict[str, Any]]:
    return [{**row, "reward": reward, "target": target} for row in decisions()]


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"rows": decisions()[:6]}, "6 decisions are known to be right or wrong, 10 are needed"),
        ({"rows": alike(None, 1)}, "all 60 judgements say that a label holds: nothing can be told apart"),
        ({"rows": alike(None, 0)}, "all 60 judgements say that a label does not hold"),
        (
            {"golden": {"a  CAT 0": "cat", "the golden dog": "dog"}},
            "1 of the 2 texts of the golden set stand among those that are learned from",
        ),
        ({"golden": {"a mouse": "mouse", "the golden cat": "cat"}}, "1 label.s. that 'pets' lacks: mouse"),
        (
            {"golden": {"a  CAT 0": "cat", "a dog": "dog"}, "replay": ["golden.parquet"]},
            "2 of the 2 texts of the golden",
        ),
        ({"remembered": ["golden.parquet"], "replay": ["golden.parquet"]}, "30 of the 30 texts of the golden set"),
    ],
)
def test_what_can_not_be_learned_from_or_judged_by_stops_it_before_any_training(
    facts: dict[str, Any], said: str, champion: str, written: Written
) -> None:
    config = written(**facts)
    with pytest.raises(TrainingError, match=said):
        begun(config).supervised()
    assert sorted(path.name for path in config.run_folder("r").iterdir()) == ["champion.json", "snapshot"]


def test_rewards_that_are_all_alike_leave_ppo_the_judgements(champion: str, written: Written) -> None:
    rows = [{**row, "reward": 1.0} for row in decisions()]
    done = begun(written(rows, ppo={"steps": 4, "texts": 4, "logged_share": 1.0}))
    assert "all rewards are alike: PPO learns from judgements alone" in done.material.notes
    assert all("reward" in point and "logged_reward" not in point for point in done.ppo()["curve"])


def test_without_exploration_it_is_said_what_can_not_be_learned(champion: str, written: Written) -> None:
    rows = [{**row, "propensity": None} for row in decisions()]
    [exploration, replay] = begun(written(rows)).material.notes
    assert "the decisions were made by thresholds alone" in exploration
    assert "nothing is replayed" in replay


def test_a_golden_folder_of_several_tables_is_refused(champion: str, written: Written, tmp_path: Path) -> None:
    config, folder = written(), tmp_path / "both"
    folder.mkdir()
    for name in ("one", "two"):
        shutil.copy(tmp_path / "golden.parquet", folder / f"{name}.parquet")
    with pytest.raises(TrainingError, match=r"holds 2 tables \(one, two\); name the one that judges"):
        begun(config.model_copy(update={"golden": str(folder)})).supervised()


def test_feedback_that_leaves_nothing_to_judge_by_is_told(champion: str, written: Written) -> None:
    rows = [{**row, "text": "a cat 0"} if row["held_out"] else row for row in decisions()]
    work = begun(written(rows))
    assert any("the golden set alone judges" in note for note in work.material.notes)
    assert [each["name"] for each in work.gate()["comparisons"]] == ["golden"]


def test_a_held_out_copy_of_a_text_that_was_learned_from_judges_nothing(champion: str, written: Written) -> None:
    rows = [{**row, "text": "a CAT  0"} if row["doc_id"] == "20" else row for row in decisions()]
    assert len(begun(written(rows)).material.held_out) == 9


@pytest.mark.parametrize("step", [[], ["--step", "snapshot"], ["--step", "promote"]])
def test_of_several_processes_each_would_do_what_they_do_not_share(
    step: list[str],
    written: Written,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = written().run_folder("r")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(["retrain", str(tmp_path / "retrain.yaml"), "--run-id", "r", *step]) == 2
    assert "torchrun's processes share the steps supervised and ppo alone" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["snapshot"]


def test_without_a_snapshot_or_a_champion_it_does_not_begin(registry: Registry, written: Written) -> None:
    config = written()
    with pytest.raises(ModelNotFoundError):
        begun(config)
    shutil.rmtree(config.run_folder("r"))
    with pytest.raises(ConfigError, match="holds no snapshot; run the step 'snapshot'"):
        begun(config)


def test_a_pipeline_that_does_not_follow_its_champion_is_refused_with_what_to_write(
    written: Written, tmp_path: Path
) -> None:
    written()
    pipeline = yaml.safe_load((tmp_path / "pets.yaml").read_text())
    (tmp_path / "pets.yaml").write_text(yaml.safe_dump({**pipeline, "model": "embedded"}))
    with pytest.raises(GliclassSparkError, match="write model: models:/pets@champion there"):
        RetrainConfig.from_yaml(tmp_path / "retrain.yaml")
