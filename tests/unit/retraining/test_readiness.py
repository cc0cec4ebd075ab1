"""What is known before a retraining: the evidence in real Delta tables, the golden set's power, and what steps read."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from deltalake import write_deltalake

from gliclass_spark.cli.app import main
from gliclass_spark.config.retraining import RetrainConfig
from gliclass_spark.retraining.gate.golden_power import golden_power
from gliclass_spark.retraining.readiness import Readiness, check_readiness
from gliclass_spark.retraining.retraining_data import read_golden
from gliclass_spark.training.data.labelled_text import LabelledSet

FEEDBACK = pa.schema(
    [
        *((name, pa.string()) for name in ("doc_id", "label_set_hash", "label", "verdict")),
        ("reward", pa.float64()),
        ("source", pa.string()),
        ("observed_at", pa.timestamp("us", "UTC")),
        ("content_hash", pa.string()),
        ("chosen", pa.bool_()),
        ("propensity", pa.float64()),
    ]
)
# Earlier tables lack these columns.
DOCUMENT_FEEDBACK = pa.schema(
    [*FEEDBACK, ("labels", pa.list_(pa.string())), ("propensities", pa.map_(pa.string(), pa.float64()))]
)
EARLIER = "1" * 64
Configure = Callable[..., RetrainConfig]


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Writes the files of the retraining "mail", and a golden set with this many texts of each label."""

    def of(golden: dict[str, int] | None = None, **keys: Any) -> RetrainConfig:
        pipeline = {
            "name": "mail",
            "source": {"path": "mail", "id": "id", "text": "body"},
            "label_set": ["spam", "invoice", "it's late"],
            "model": "models:/mail@champion",
            "tables": "lake",
        }
        (tmp_path / "mail.yaml").write_text(yaml.safe_dump(pipeline))
        counts = golden or {"spam": 40, "invoice": 30, "it's late": 12}
        rows = [{"text": f"{label} {number}", "labels": [label]} for label in counts for number in range(counts[label])]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "golden.parquet")
        document = {"pipeline": "mail.yaml", "golden": "golden.parquet", "work": "work", "min_decisions": 3, **keys}
        (tmp_path / "retrain.yaml").write_text(yaml.safe_dump(document))
        return RetrainConfig.from_yaml(tmp_path / "retrain.yaml")

    return of


def signal(config: RetrainConfig, doc_id: str, label: str = "spam", **facts: Any) -> dict[str, Any]:
    return {
        "doc_id": doc_id,
        "label_set_hash": config.pipeline.label_set.hash,
        "label": label,
        "verdict": "accepted",
        "reward": 1.0,
        "source": "ann",
        "observed_at": datetime(2026, 3, 1, tzinfo=UTC),
        "content_hash": "c",
        "chosen": True,
        "propensity": None,
        **facts,
    }


def rejected(config: RetrainConfig, doc_id: str, label: str = "spam", **facts: Any) -> dict[str, Any]:
    return signal(config, doc_id, label, verdict="rejected", **{"reward": -1.0, **facts})


def write(folder: Path, signals: Sequence[dict[str, Any]], schema: pa.Schema = FEEDBACK) -> None:
    write_deltalake(str(folder / "lake" / "feedback"), pa.Table.from_pylist(list(signals), schema), mode="append")
    runs = pa.table({"pipeline": ["mail"], "label_set_hash": [EARLIER]})
    write_deltalake(str(folder / "lake" / "runs"), runs, mode="overwrite")


def write_finished(config: RetrainConfig, signals: int, created_at: str = "2026-02-01", **comparison: Any) -> None:
    """Write what a finished retraining leaves."""
    folder = config.run_folder(f"r-{created_at}")
    (folder / "snapshot").mkdir(parents=True)
    snapshot = {
        "question_hash": config.pipeline.label_set.question_hash,
        "counts": {"signals": signals},
        "created_at": created_at,
    }
    (folder / "snapshot" / "snapshot.json").write_text(json.dumps(snapshot))
    (folder / "gate.json").write_text(json.dumps({"comparisons": [comparison]}))
    (folder / "promote.json").write_text("{}")


def golden_of(config: RetrainConfig) -> LabelledSet:
    return read_golden(config.golden)


def many(config: RetrainConfig, documents: int) -> list[dict[str, Any]]:
    """Return as many right as wrong decisions of two sources."""
    make = (signal, rejected)
    return [
        make[number % 2](config, str(number), source=("ann", "bob")[number % 4 // 2]) for number in range(documents)
    ]


def lines(messages: Sequence[str]) -> str:
    return "\n".join(messages)


def test_signals_and_decisions_of_the_pipelines_label_sets_are_counted(configure: Configure, tmp_path: Path) -> None:
    config = configure()
    write(
        tmp_path,
        [
            signal(config, "1"),
            signal(config, "1", source="bob"),
            rejected(config, "2", "it's late", label_set_hash=EARLIER),
            signal(config, "3", verdict="dwelled", reward=0.25, source="site", propensity=0.1),
            signal(config, "4", verdict="rated", reward=-0.5, chosen=False, source="site", propensity=0.9),
            signal(config, "5", "parcel", label_set_hash=EARLIER),
            signal(config, "6", chosen=None, reward=None),
            signal(config, "7", label_set_hash="0" * 64),
        ],
    )
    write_finished(config, 2)
    evidence = check_readiness(config).evidence
    assert (evidence.signals, evidence.mapped, evidence.dropped, evidence.new) == (6, 1, {"parcel": 1}, 4)
    assert evidence.sources == {"ann": 3, "site": 2, "bob": 1}
    assert (evidence.decisions, evidence.documents, evidence.judged_documents) == (5, 5, 5)
    # Document 4: a low rating of not giving the label says that it holds.
    assert (evidence.judged, evidence.right_labels, evidence.wrong_labels) == (4, 3, 1)
    assert (evidence.rewarded, evidence.usable, evidence.explored, evidence.with_propensity) == (4, 5, 2, 2)
    assert (evidence.lowest_reward, evidence.highest_reward) == (-1.0, 1.0)


def of_document(config: RetrainConfig, doc_id: str, reward: float, labels: Sequence[str] = ("spam",)) -> dict[str, Any]:
    propensities = [("spam", 0.9), ("invoice", 0.1), ("it's late", 0.1)]
    verdict = "accepted" if reward > 0 else "rejected"
    row = signal(config, doc_id, verdict=verdict, reward=reward, labels=list(labels), propensities=propensities)
    return {**row, "label": None}


def test_rewards_of_documents_are_counted_and_those_that_match_no_decision_by_reason(
    configure: Configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = configure()
    write(
        tmp_path,
        [
            *(of_document(config, str(number), 1.0) for number in range(4)),
            of_document(config, "4", -1.0, ["spam", "it's late"]),
            of_document(config, "5", 1.0, ["spam", "parcel"]) | {"label_set_hash": EARLIER},
            of_document(config, "6", 1.0) | {"chosen": None, "labels": None, "reward": None, "propensities": None},
            of_document(config, "7", 1.0),
            of_document(config, "7", -1.0) | {"source": "bob"},
            rejected(config, "4"),
        ],
        DOCUMENT_FEEDBACK,
    )
    readiness = check_readiness(config)
    evidence = readiness.evidence
    assert (evidence.rewarded_documents, evidence.accepted_documents, evidence.judged) == (5, 4, 1)
    assert (evidence.dropped, evidence.dropped_documents, evidence.late, evidence.contradicting) == ({}, 1, 1, 1)
    assert (evidence.decisions, evidence.usable, evidence.judged_documents) == (8, 6, 5)
    assert (evidence.with_propensity, evidence.lowest_reward, evidence.highest_reward) == (5, -1.0, 1.0)
    assert "5 documents have one reward for all of their labels: PPO learns more" in lines(readiness.notes)
    assert main(["retrain", str(tmp_path / "retrain.yaml"), "--check", "--json"]) == 2
    counted = json.loads(capsys.readouterr().out)["evidence"]
    assert (counted["rewarded_documents"], counted["dropped_documents"], counted["late"]) == (5, 1, 1)
    with_ppo = check_readiness(configure(ppo={}))
    assert "PPO learns more" not in lines(with_ppo.notes)


def test_a_majority_is_counted_if_the_file_says_so(configure: Configure, tmp_path: Path) -> None:
    config = configure()
    day = [datetime(2026, 3, number, tzinfo=UTC) for number in (1, 2, 3)]
    opinions = [
        signal(config, "1", source="ann", observed_at=day[0]),
        signal(config, "1", source="bob", observed_at=day[1]),
    ]
    write(tmp_path, [*opinions, rejected(config, "1", source="eve", observed_at=day[2])])
    newest, majority = (
        check_readiness(configure(feedback={"resolve": resolve})).evidence for resolve in ("newest", "majority")
    )
    assert (newest.right_labels, newest.wrong_labels) == (0, 1)
    assert (majority.right_labels, majority.wrong_labels) == (1, 0)


def test_the_golden_set_detects_less_with_fewer_texts(configure: Configure) -> None:
    small, large = (
        golden_power(config := configure(dict.fromkeys(("spam", "invoice", "it's late"), size)), golden_of(config))
        for size in (50, 200)
    )
    assert small.detectable_gain / large.detectable_gain == pytest.approx(2, rel=0.1)
    assert small.texts_for_gain["0.02"] == pytest.approx(large.texts_for_gain["0.02"], rel=0.2)
    assert "two simulated models that each miss 35% of the labels" in small.assumption


def test_a_large_golden_set_is_simulated_in_part(configure: Configure, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configure({"spam": 400, "invoice": 300, "it's late": 200})
    whole = golden_power(config, golden_of(config)).standard_error
    monkeypatch.setattr("gliclass_spark.retraining.gate.golden_power._MAX_CELLS", 900)
    assert golden_power(config, golden_of(config)).standard_error == pytest.approx(whole, rel=0.15)


def test_the_last_verdict_about_these_labels_replaces_the_simulation(configure: Configure) -> None:
    config = configure()
    write_finished(config, 2, "2026-02-01", texts=328, standard_error=0.5)
    write_finished(config, 2, "2026-02-08", texts=328, standard_error=0.01)
    write_finished(config, 2, "2026-02-15", texts=328, standard_error=0.0)
    power = golden_power(config, golden_of(config))
    assert power.standard_error == pytest.approx(0.02), "82 texts instead of 328"
    assert power.assumption == "by the candidate of r-2026-02-08, on 328 texts"


@pytest.mark.parametrize(
    ("documents", "note"), [(125, "each of the 100 judged documents 64 times"), (30_000, "27% of")]
)
def test_a_training_that_reads_too_often_or_too_little_is_noted(
    configure: Configure, tmp_path: Path, documents: int, note: str
) -> None:
    config = configure()
    write(tmp_path, many(config, documents))
    assert note in lines(check_readiness(config).notes)
    derived = check_readiness(configure(supervised={"passes": 3}))
    assert "supervised training reads" not in lines(derived.notes)
    assert derived.costs[0].passes == pytest.approx(3, rel=0.1)


def test_each_step_says_what_it_reads(configure: Configure, tmp_path: Path) -> None:
    config = configure(
        supervised={"steps": 50, "texts": 10, "replay_share": 0.2},
        replay=["golden.parquet"],
        ppo={"steps": 10, "texts": 8, "epochs": 2, "logged_share": 0.5},
    )
    write(tmp_path, many(config, 100))
    costs = {cost.step: (cost.updates, cost.texts, cost.distinct) for cost in check_readiness(config).costs}
    assert costs == {
        "supervised": (50, 400, 80),
        "supervised, replay": (50, 100, 82),
        "ppo": (20, 144, 80),
        "calibrate": (None, 82, 82),
        "gate": (None, 204, 102),
    }


def readiness_of(configure: Configure, folder: Path, case: str) -> Readiness:
    config = configure({"spam": 20, "parcel": 5} if case == "unknown golden labels" else None)
    signals = {
        "none": [],
        "other label sets": [signal(config, "1", label_set_hash="0" * 64)],
        "labels that are gone": [signal(config, str(number), "parcel", label_set_hash=EARLIER) for number in range(9)],
        "too few": many(config, 3),
        "all right": [signal(config, str(number)) for number in range(9)],
        "one source": [make(config, f"{number}") for number, make in enumerate([signal, rejected] * 5)],
        "most of one source": [*many(config, 4), *(signal(config, f"more {number}") for number in range(5))],
        "equal rewards": [signal(config, str(number), verdict="clicked") for number in range(9)],
        "unknown golden labels": many(config, 9),
        "rewards of 0": [signal(config, str(number), verdict="dwelled", reward=0.0) for number in range(9)],
        "rejected documents": [of_document(config, str(number), -1.0) for number in range(9)],
        "documents of labels that are gone": [of_document(config, str(number), 1.0, ["parcel"]) for number in range(9)],
        "contradicting": [make(config, str(number)) for number in range(9) for make in (signal, rejected)],
    }[case]
    if case != "none":
        write(folder, signals, DOCUMENT_FEEDBACK)
    return check_readiness(config)


@pytest.mark.parametrize(
    ("case", "problem"),
    [
        ("none", "there is no feedback about"),
        ("other label sets", "there is no feedback about"),
        ("labels that are gone", "all 9 signals are about labels that 'mail' lacks (parcel); bring feedback on its"),
        (
            "too few",
            "about 2 of 3 judged or rewarded decisions are left to train on (holdout_share: 0.2), 3 are",
        ),
        ("all right", "all 9 judgements say that a label holds, so there is nothing to tell apart"),
        (
            "rewards of 0",
            "none of 9 rewards says which label holds: those of labels are 0, and a document whose labels",
        ),
        ("rejected documents", "none of 9 rewards says which label holds"),
        (
            "documents of labels that are gone",
            "all 9 signals are about labels that 'mail' lacks; bring feedback on its",
        ),
        ("contradicting", "about 0 of 0 judged or rewarded decisions are left to train on"),
        ("unknown golden labels", "the golden set golden has 1 label(s) that 'mail' lacks: parcel; label it with"),
    ],
)
def test_what_would_stop_the_retraining_is_one_line(
    configure: Configure, tmp_path: Path, case: str, problem: str
) -> None:
    [message] = readiness_of(configure, tmp_path, case).problems
    assert problem in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("case", "note"),
    [
        ("one source", "all signals are from one source, 'ann'"),
        ("most of one source", "78% of the signals are from 'ann'; `max_source_share: 0.5` limits"),
        ("equal rewards", "all rewards are equal (1)"),
        ("unknown golden labels", "the golden set has no text of 2 label(s) (invoice, it's late)"),
        ("one source", "all decisions were made by thresholds"),
    ],
)
def test_limits_of_the_data_are_notes(configure: Configure, tmp_path: Path, case: str, note: str) -> None:
    readiness = readiness_of(configure, tmp_path, case)
    assert note in lines(readiness.notes)
    assert not readiness.problems or case == "unknown golden labels"


def test_the_command_shows_it_and_writes_nothing(
    configure: Configure, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    write(tmp_path, many(configure({"spam": 40, "invoice": 30, "it's late": 4}), 40))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    file = str(tmp_path / "retrain.yaml")
    assert main(["retrain", file, "--check"]) == 0
    shown = capsys.readouterr().out
    rows = [line for line in shown.splitlines() if line.startswith(("┏", "┡", "│", "└"))]
    assert max(map(len, rows)) <= 80
    cells = {cell.strip() for row in rows for cell in row.split("│")}
    assert {"it's late", "40", "50% of the signals from ann", "200.00"} <= cells
    assert "exempt from max_label_loss" in shown
    assert "The retraining can start. Nothing was written." in shown
    assert main(["retrain", file, "--check", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["ready"], document["evidence"]["judged"], document["golden"]["texts"]) == (True, 40, 74)
    assert document["champion_check"]["message"].startswith("unknown: ")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


def test_a_retraining_that_would_stop_exits_with_2(
    configure: Configure, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    configure()
    file = str(tmp_path / "retrain.yaml")
    assert main(["retrain", file, "--check"]) == 2
    shown = capsys.readouterr().out
    assert "problem: there is no feedback about 'mail'" in shown
    assert "The retraining would stop: 1 problem(s). Nothing was written." in shown
    assert main(["retrain", file, "--check", "--step", "gate", "--run-id", "r"]) == 2
    assert "give it without --run-id and --step" in capsys.readouterr().err
    assert main(["retrain", file, "--json"]) == 2
    assert "--json needs --check" in capsys.readouterr().err
