"""The champion check: harm by a promoted version is found and undone once, whenever the check is killed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from deltalake import write_deltalake
from pets_retraining import KINDS, WriteConfig, aliases, decisions, write_documents, write_snapshot
from scipy.stats import binom

from gliclass_spark import atomic_files
from gliclass_spark.checkpoints.registry import ModelVersion, Registry
from gliclass_spark.checkpoints.registry.promotions import ROLLBACK_TAG, Aliases
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.cli.app import main
from gliclass_spark.cli.retrain_commands import run_steps
from gliclass_spark.config.model_uri import CHAMPION, PREVIOUS
from gliclass_spark.config.retraining import RETRAINING_STEPS, RetrainConfig
from gliclass_spark.errors import ConfigError
from gliclass_spark.inference.engine import Engine
from gliclass_spark.retraining.champion_check import harm_rule, looks_at
from gliclass_spark.retraining.champion_evidence import expected_check
from gliclass_spark.retraining.gate.gate_comparison import Contender
from gliclass_spark.retraining.gate.reward_comparison import RewardDifference

Rows = list[dict[str, Any]]
ROLLED_BACK = {CHAMPION: 1, PREVIOUS: 2}
PROMOTED = {CHAMPION: 2, PREVIOUS: 1}


@pytest.fixture
def promoted(registry: Registry, champion: str, other_tiny_model: str) -> ModelVersion:
    """Version 2 of "pets", promoted over version 1."""
    with registry.run("pets", "second", {}) as tracked:
        version = registry.register("pets", Path(other_tiny_model), tracked.run_id)
    return registry.promote("pets", str(version.number))


def feedback(config: RetrainConfig, promoted: ModelVersion, right: int, documents: int = 30) -> Rows:
    """Decisions of the promoted version, by chance of 1/2; version `right` is right about three quarters of them."""
    rows = [{**row, "model_digest": promoted.digest} for row in decisions() if int(row["doc_id"]) < documents]
    texts = tuple(dict.fromkeys(row["text"] for row in rows))
    given = [
        Contender(Engine.from_pretrained(resolve_model(f"models:/pets/{number}"))).assign(
            texts, config.pipeline.label_set
        )
        for number in (1, 2)
    ]
    assert (given[0] != given[1]).any(), "the two models differ"
    for row in rows:
        target = given[right - 1][texts.index(row["text"]), KINDS.index(row["label"])] != (int(row["doc_id"]) % 8 > 5)
        row |= {"target": int(target), "reward": 1.0 if target == row["chosen"] else -1.0}
    return rows


@pytest.fixture
def checked(
    write_config: WriteConfig, promoted: ModelVersion, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[RetrainConfig, str]]:
    """Checks the champion by feedback that says version `right` is right; the configuration, and what was printed."""

    def of(right: int, documents: int = 30, **keys: Any) -> tuple[RetrainConfig, str]:
        config = write_config([], **{"gate": "normal", **keys})
        write_snapshot(config, "check", feedback(config, promoted, right, documents))
        run_steps(config, "check", ["champion_check"])
        return config, capsys.readouterr().out

    return of


def outcome(config: RetrainConfig, run_id: str = "check") -> dict[str, Any]:
    document: dict[str, Any] = json.loads((config.run_folder(run_id) / "champion_check.json").read_text())
    return document


def test_harm_is_rolled_back_once_with_the_reason_in_registry_and_outcome(
    registry: Registry,
    checked: Callable[..., tuple[RetrainConfig, str]],
    champion: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config, printed = checked(1)
    assert aliases(registry) == ROLLED_BACK
    assert resolve_model(config.pipeline.model).digest == champion
    found = outcome(config)
    assert (found["harm"], found["rolled_back"], found["version"], found["previous"]) == (True, True, 2, 1)
    assert found["reward"]["difference"] < -0.1
    tag = json.loads(registry.version("pets", "2").tags[ROLLBACK_TAG])
    assert (tag["retraining"], tag["reason"]) == ("check", found["message"])
    assert "version 2 is rolled back to version 1, and nothing is trained: estimated reward per decision" in printed
    assert main(["models", "pets"]) == 0
    assert f"version 2 was rolled back automatically: {found['message']}" in capsys.readouterr().out

    run_steps(config, "check", RETRAINING_STEPS[1:])  # trains nothing, though the snapshot has enough decisions
    assert not (config.run_folder("check") / "supervised.json").exists()
    with pytest.raises(ConfigError, match="this retraining has rolled the champion back, so it trains nothing"):
        run_steps(config, "check", ["supervised"])


def test_harm_is_rolled_back_with_too_little_new_feedback_to_train_on(
    registry: Registry, checked: Callable[..., tuple[RetrainConfig, str]]
) -> None:
    config, _ = checked(1, min_new_signals=1000)
    assert aliases(registry) == ROLLED_BACK
    assert not list(config.run_folder("check").glob("check_feedback.json")), "a rollback ends the retraining"


CHECK_ONLY = """
import sys
from gliclass_spark.cli.retrain_commands import run_steps
from gliclass_spark.config.retraining import RETRAINING_STEPS, RetrainConfig
run_steps(RetrainConfig.from_yaml(sys.argv[1]), "check", RETRAINING_STEPS[1:])
trainers = {"transformers.trainer", "gliclass_spark.training.supervised", "gliclass_spark.training.reinforcement.ppo"}
sys.exit(", ".join(trainers & set(sys.modules)) or 0)
"""


def test_the_champion_is_checked_before_too_little_feedback_ends_the_retraining_without_a_trainer(
    registry: Registry,
    checked: Callable[..., tuple[RetrainConfig, str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    config, _ = checked(2, min_decisions=1000)
    folder, file = config.run_folder("check"), Path(config.work).parent / "retrain.yaml"
    (folder / "champion_check.json").unlink()
    done = subprocess.run([sys.executable, "-c", CHECK_ONLY, str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "estimated reward per decision" in outcome(config)["message"]
    recorded = json.loads((folder / "check_feedback.json").read_text())
    assert not recorded["trains"]
    assert "(min_decisions)" in recorded["message"]
    assert f"check_feedback: nothing is trained: {recorded['message']}" in done.stdout

    run_steps(config.model_copy(update={"min_decisions": 1, "min_new_signals": 1000}), "check", RETRAINING_STEPS[1:])
    assert "90 of the 90 signals are new since the last retraining, 1000 are needed" in capsys.readouterr().out
    assert not (folder / "supervised.json").exists()
    assert aliases(registry) == PROMOTED


def test_a_version_that_is_promoted_again_by_hand_is_not_rolled_back_twice(
    registry: Registry, checked: Callable[..., tuple[RetrainConfig, str]], promoted: ModelVersion
) -> None:
    config, _ = checked(1)
    registry.promote("pets", "2")
    next_run(config, promoted)
    assert aliases(registry) == PROMOTED
    assert outcome(config, "next")["message"] == (
        "no check: version 2 was rolled back by check and promoted again; it is not rolled back twice"
    )


def test_a_champion_that_is_checked_every_week_of_a_year_is_rolled_back_by_chance_in_one_of_twenty_cases(
    champion: str, write_config: WriteConfig
) -> None:
    config = write_config([], gate="normal")
    weeks, champions = 52, 400
    # A loss that is just allowed, and a standard error that falls with the feedback.
    rewards = np.random.default_rng(0).normal(-config.gate.max_reward_loss, 1.0, (champions, weeks, 40))
    counts = 40 * np.arange(1, weeks + 1)
    estimates = rewards.sum(axis=2).cumsum(axis=1) / counts
    rules = [harm_rule(config, look) for look in range(1, weeks + 1)]

    def is_harm(week: int, estimate: float) -> bool:
        difference = RewardDifference(float(estimate), counts[week] ** -0.5, counts[week], counts[week], counts[week])
        return rules[week].shows_harm(difference)

    harmed = sum(any(is_harm(week, estimates[row, week]) for week in range(weeks)) for row in range(champions))
    assert harmed <= binom.ppf(0.999, champions, 0.05)
    # Only checks with evidence are looks.
    for name, look in (("a", 1), ("b", 0), ("c", 2)):
        folder = config.run_folder(name)
        folder.mkdir()
        (folder / "champion_check.json").write_text(json.dumps({"champion": champion, "look": look}))
    assert (looks_at(config, champion), looks_at(config, "0" * 64)) == (2, 0)


def test_harm_is_found_by_rewards_of_documents_alone(
    registry: Registry, promoted: ModelVersion, write_config: WriteConfig
) -> None:
    config = write_config([], gate="normal")
    texts = tuple(f"a {kind} {number}" for number in range(300) for kind in KINDS)
    first, second = (
        Contender(Engine.from_pretrained(resolve_model(f"models:/pets/{number}"))).assign(
            texts, config.pipeline.label_set
        )
        for number in (1, 2)
    )
    # All documents are explored, and their labels drawn with 1/2: whoever gives the labels of version 1 is right.
    drawn = np.random.default_rng(0).random(first.shape) < 0.5
    documents = [
        {
            **{"doc_id": str(row), "text": text, "held_out": False, "model_digest": promoted.digest},
            "labels": [kind for kind, is_given in zip(KINDS, drawn[row], strict=True) if is_given],
            "reward": 1.0 if (drawn[row] == first[row]).all() else -1.0,
            **{name: [(kind, 0.5) for kind in KINDS] for name in ("scores", "propensities")},
        }
        for row, text in enumerate(texts)
    ]
    assert (first != second).any(axis=1).mean() > 0.3
    no_labels = decisions()[0] | {"model_digest": "0" * 64}
    write_snapshot(config, "check", [no_labels])
    write_documents(config, documents, "check")
    path = config.run_folder("check") / "snapshot" / "snapshot.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "exploration": 1.0}))
    run_steps(config, "check", ["champion_check"])
    check = outcome(config)
    assert (check["rolled_back"], check["decisions"], check["reward"], check["look"]) == (True, 900, None, 1)
    assert check["set_reward"]["difference"] < -0.5
    assert check["message"].startswith("estimated reward per document, version 2 against version 1: -")
    assert aliases(registry) == ROLLED_BACK


def next_run(config: RetrainConfig, promoted: ModelVersion) -> None:
    write_snapshot(config, "next", feedback(config, promoted, right=1))
    run_steps(config, "next", ["champion_check"])


@pytest.mark.parametrize(
    ("right", "keys", "message"),
    [
        (2, {}, "estimated reward per decision, version 2 against version 1: +"),
        (
            1,
            {"documents": 8},
            "no evidence about version 2 against version 1: 24 judged decisions of 8 documents,",
        ),
        (1, {"rollback": {"min_effective_decisions": 91}}, "effective sample size 90, at least 91 are needed"),
        (1, {"rollback": {"automatic": False}}, "HARM, and no automatic rollback: estimated reward per decision"),
    ],
)
def test_without_evidence_of_harm_nothing_changes_and_it_is_said(
    registry: Registry,
    checked: Callable[..., tuple[RetrainConfig, str]],
    right: int,
    keys: dict[str, Any],
    message: str,
) -> None:
    config, printed = checked(right, **keys)
    assert message in printed
    assert aliases(registry) == PROMOTED
    assert not outcome(config)["rolled_back"]
    assert ROLLBACK_TAG not in registry.version("pets", "2").tags


def test_a_champion_without_a_version_before_it_is_not_checked(
    registry: Registry, champion: str, write_config: WriteConfig
) -> None:
    config = write_config()
    run_steps(config, "r", ["champion_check"])
    assert "replaced no other version" in outcome(config, "r")["message"]
    assert aliases(registry) == {CHAMPION: 1}


def test_a_missing_checkpoint_of_the_version_before_is_one_line(
    registry: Registry,
    checked: Callable[..., tuple[RetrainConfig, str]],
    promoted: ModelVersion,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config, _ = checked(1, documents=5)
    first = registry.version("pets", "1")
    for file in Path(first.source.removeprefix("file://")).iterdir():
        file.unlink()
    rows = feedback(config, promoted, 1)  # from the cache
    monkeypatch.setenv("GLICLASS_SPARK_CACHE", str(tmp_path / "another cache"))
    write_snapshot(config, "next", rows)
    run_steps(config, "next", ["champion_check"])
    message = outcome(config, "next")["message"]
    assert message.startswith("no check of version 2 against version 1: models:/pets/1")
    assert "\n" not in message
    assert aliases(registry) == PROMOTED


@pytest.mark.parametrize(
    ("killed_in", "run_id"), [("rollback", "next"), ("alias", "check"), ("alias", "next"), ("outcome", "check")]
)
def test_a_check_that_was_killed_is_completed_by_the_next_one(
    registry: Registry,
    checked: Callable[..., tuple[RetrainConfig, str]],
    promoted: ModelVersion,
    killed_in: str,
    run_id: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_text = atomic_files.write_text

    def kill(*arguments: Any) -> None:
        if killed_in == "outcome" and Path(arguments[0]).name != "champion_check.json":
            write_text(*arguments)
        else:
            raise KeyboardInterrupt

    target: tuple[Any, str] = {
        "rollback": (Registry, "rollback"),
        "alias": (Aliases, "set"),
        "outcome": (atomic_files, "write_text"),
    }[killed_in]
    with monkeypatch.context() as patched:
        patched.setattr(*target, kill)
        with pytest.raises(KeyboardInterrupt):
            checked(1)
    config = RetrainConfig.from_yaml(Path(registry.uri.removeprefix("sqlite:///")).parent / "retrain.yaml")
    if run_id == "next":
        next_run(config, promoted)
    else:
        run_steps(config, "check", ["champion_check"])
    assert aliases(registry) == ROLLED_BACK
    found = outcome(config, run_id)
    # Another retraining that finds the rollback done trains: its champion is the version that came back.
    assert found["rolled_back"] == (run_id == "check" or killed_in == "rollback")
    assert found["message"].startswith(
        "estimated reward" if found["rolled_back"] else "no check: the champion of 'pets'"
    )


def test_the_readiness_check_says_what_the_champion_check_would_do(
    registry: Registry, promoted: ModelVersion, write_config: WriteConfig, tmp_path: Path
) -> None:
    config = write_config([])
    assert "version 2, promoted at 20" in expected_check(config).message
    assert "would not be compared with version 1: 0 decisions" in expected_check(config).message
    rows = [
        {
            **{"doc_id": str(number), "label": "cat", "content_hash": "c", "model_digest": promoted.digest},
            **{"label_set_hash": config.pipeline.label_set.hash, "chosen": number % 4 > 0},
            "propensity": 0.75,
        }
        for number in range(80)
    ]
    write_deltalake(str(tmp_path / "lake" / "feedback"), pa.Table.from_pylist(rows))
    expected = expected_check(config)
    # 60 decisions of weight 4/3 and 20 of weight 4.
    assert (expected.compares, expected.version, expected.previous, expected.decisions) == (True, 2, 1, 80)
    assert expected.effective_sample_size == pytest.approx(60)
    assert "would be compared with version 1, and rolled back to version 1 if that shows harm" in expected.message
    document = {**rows[0], "label": None, "propensities": [("cat", 0.5)]}
    both = [*({**row, "propensities": None} for row in rows), *({**document, "doc_id": f"d{n}"} for n in range(90))]
    schema = pa.Table.from_pylist(rows).schema.append(pa.field("propensities", pa.map_(pa.string(), pa.float64())))
    lake = str(tmp_path / "lake" / "feedback")
    write_deltalake(lake, pa.Table.from_pylist(both, schema), mode="overwrite", schema_mode="overwrite")
    assert "and 90 documents have one reward for all of their labels" in expected_check(config).message
    registry.rollback("pets")
    assert expected_check(config).message.endswith("replaced no other version, or came back by a rollback")
    (tmp_path / "mlflow.db").unlink()
    assert expected_check(config).message.startswith("unknown: ")
