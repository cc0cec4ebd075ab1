"""Commands around a scheduled run: plan, report, maintain, and a continuous run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from pyspark.sql import SparkSession
from quick_spark import QUICK_SPARK
from stored_tables import stored_rows

from gliclass_spark.cli.app import main
from gliclass_spark.cli.console import console
from gliclass_spark.spark.delta.lake import Lake

TEXTS = {
    **{f"plain-{number}": f"document number {number} speaks of a lake of data" for number in range(6)},
    "shop": "buy this boat for the lake",
    "short": "short",
    "blank": " ",
    "script": "<script>alert('lake')</script> is no way to greet a lake",
}


@pytest.fixture(scope="module")
def pipeline(spark: SparkSession, tiny_bi_encoder: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("commands")
    add(spark, folder, TEXTS)
    document = {
        "name": "mail",
        "source": {"path": "mail", "id": "id", "text": "body"},
        "label_set": ["spam", "lake"],
        "model": tiny_bi_encoder,
        "tables": "lake",
        "reject": [{"reason": "too_short", "when": "token_count < 4"}, {"reason": "never", "when": "token_count < 0"}],
        "routes": [{"route": "shop", "when": "body like 'buy%'"}],
        "max_error_ratio": 0.5,
    }
    (folder / "mail.yaml").write_text(yaml.safe_dump(document))
    return folder / "mail.yaml"


def add(spark: SparkSession, folder: Path, texts: dict[str, str]) -> None:
    frame = spark.createDataFrame(list(texts.items()), "id string, body string").coalesce(1)
    writer = frame.write.format("delta").mode("append").option("delta.enableChangeDataFeed", "true")
    writer.save(str(folder / "mail"))


def command(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    capsys.readouterr()
    assert main([str(argument) for argument in arguments]) == 0
    return capsys.readouterr().out


def rows_of(table: str) -> dict[str, list[str]]:
    """Return the cells of a printed table, by the first cell of each row."""
    lines = [[cell.strip() for cell in line.strip("│ ").split("│")] for line in table.splitlines() if "│" in line]
    return {cells[0]: cells[1:] for cells in lines if cells[0]}


@pytest.mark.long
def test_a_pipeline_from_plan_to_maintenance(
    spark: SparkSession, pipeline: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = Lake(str(pipeline.parent / "lake"))
    monkeypatch.setattr(console, "width", 160)

    sizing = ("--cluster", "--documents", "1000000000", "--texts-per-s", "2000", "--slots", "4", "--price", "12")
    planned = command(capsys, "plan", pipeline, *sizing)
    assert "A cluster for 1,000,000,000 documents within 8 hours" in planned
    assert rows_of(planned)["executors of 4 slots"][-1] == "6"
    assert "would read 10 documents" in planned
    assert "tag 10 of them" in planned
    cells = rows_of(planned)
    assert {name: cells[name][:2] for name in cells if name.startswith(("kept", "rejected", "quarantined", "to "))} == {
        "kept": ["0", "~8"],
        "rejected: too_short": ["0", "~1"],
        "rejected: never": ["0", "0"],
        "quarantined: empty_text": ["0", "~1"],
        "to shop": ["0", "~1"],
        "to unrouted": ["0", "~7"],
    }
    assert "short: short" in cells["rejected: too_short"][2]
    assert not Path(lake.root).exists(), "a plan writes nothing"

    ran = command(capsys, "run", pipeline, "--run-id", "run-1")
    assert rows_of(ran)["filter"] == ["evaluated", "10"]
    again = command(capsys, "plan", pipeline)
    assert "tag none of them" in again
    assert rows_of(again)["kept"][:2] == ["8", "0"]

    page = pipeline.parent / "run-1.html"
    assert str(page.name) in command(capsys, "report", pipeline, "--out", page)
    html = page.read_text(encoding="utf-8")
    assert "run-1" in html
    assert "plain-" in html
    assert "speaks of a lake of data" in html
    assert "<script>alert" not in html
    assert main(["report", str(pipeline), "run-7"]) == 2
    assert "there is no run 'run-7' among the recent ones; the latest are run-1" in capsys.readouterr().err

    add(spark, pipeline.parent, {"more": "one more lake of data"})
    output = command(capsys, "run", pipeline)
    assert rows_of(output)["tag"] == ["tagged in this run", "1"]
    maintained = rows_of(command(capsys, "maintain", pipeline))
    assert set(maintained) == {"tags", "kept", "rejected", "quarantined", "runs", "shop", "unrouted"}
    before, after = maintained["kept"][:2]
    assert (int(before) > 1, after) == (True, "1")
    assert len(stored_rows(lake.path("kept"))) == 9


@pytest.mark.long
def test_a_continuous_run_processes_new_documents_until_interrupted(
    spark: SparkSession, pipeline: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command(capsys, "run", pipeline)
    program = [sys.executable, "-u", "-c", "from gliclass_spark.cli.app import main; raise SystemExit(main())"]
    (pipeline.parent / "quick.yaml").write_text(yaml.safe_dump(QUICK_SPARK))
    program += ["run", str(pipeline), "--every", "1s", "--conf", str(pipeline.parent / "quick.yaml")]
    process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        next_line(process, "Looking for new documents")
        add(spark, pipeline.parent, {"late": "a late document about the lake"})
        line = next_line(process, " tagged, ")
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "1 new or changed, 1 tagged, 1 kept, 0 rejected, 0 quarantined; 1 to unrouted" in line
    assert (process.returncode, out.rstrip().splitlines()[-1:]) == (0, ["stopped"])
    lake = Lake(str(pipeline.parent / "lake"))
    assert len(stored_rows(lake.path("unrouted"), "doc_id = 'late'")) == 1


def next_line(process: subprocess.Popen[str], text: str) -> str:
    """Return the next line of output that contains the text."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if text in line:
            return line
    raise AssertionError(f"it ended without printing {text!r}:\n{''.join(lines)}")


@pytest.mark.parametrize("every", ["1", "soon", "0s", "-1m"])
def test_an_invalid_interval_is_refused(every: str, pipeline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(pipeline), "--every", every]) == 2
    assert "write a number and s, m or h" in capsys.readouterr().err


def test_a_step_prints_its_manifest_and_a_run_all_of_them(
    pipeline: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    shutil.copytree(pipeline.parent / "mail", tmp_path / "mail")
    pipeline = Path(shutil.copy(pipeline, tmp_path))  # without the runs of other tests
    printed = json.loads(command(capsys, "tag", pipeline))
    assert printed["job"] == "tag"
    assert printed["status"] == "succeeded"
    metrics = tmp_path / "mail.prom"
    ran = json.loads(command(capsys, "run", pipeline, "--run-id", "scripted", "--json", "--metrics", metrics))
    assert (ran["run_id"], ran["pipeline"]) == ("scripted", "mail")
    assert [(step["job"], step["status"]) for step in ran["steps"]] == [
        (job, "succeeded") for job in ("tag", "filter", "route")
    ]
    written = metrics.read_text()
    assert 'gliclass_spark_rejected_rows{pipeline="mail",job="filter",reason="too_short"} 1\n' in written
    again = json.loads(command(capsys, "run", pipeline, "--json"))  # nothing to do: without Spark
    assert [step["message"] for step in again["steps"]] == ["nothing to do since run scripted"] * 3
    command(capsys, "report", pipeline, "scripted", "--out", tmp_path / "page.html", "--metrics", metrics)
    assert sorted(metrics.read_text().splitlines()) == sorted(written.splitlines())


def test_a_plan_first_prints_an_estimate_from_a_few_documents(
    pipeline: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gliclass_spark.spark.jobs.plan.FIRST_SAMPLE", 4)
    assert main(["plan", str(pipeline), "--retag", "all", "--sample", "8", "--json"]) == 0
    printed = capsys.readouterr()
    planned = json.loads(printed.out)
    assert (planned["documents"] >= 10, planned["sampled"], planned["cluster"]) == (True, 8, None)
    outcomes = {outcome["outcome"]: outcome for outcome in planned["outcomes"]}
    assert list(outcomes)[:3] == ["kept", "rejected: too_short", "rejected: never"]
    documents = outcomes["kept"]["samples"]
    assert all(document["text"] == TEXTS[document["doc_id"]] for document in documents if document["doc_id"] in TEXTS)
    assert len({document["doc_id"] for document in documents}) == len(documents) > 1
    [_, first] = printed.err.splitlines()
    assert first.startswith(f"from the first 4 texts: {planned['documents']} documents, 0 s of scoring; kept ~")
    assert first.endswith(" (reading the source for a better estimate)")


def test_a_wrong_input_is_one_line_and_a_row_of_runs(
    spark: SparkSession, tiny_bi_encoder: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mail").mkdir()
    pq.write_table(pa.table({"id": ["1"], "body": ["a lake of data"]}), tmp_path / "mail" / "a.parquet")
    whole = (tmp_path / "mail" / "a.parquet").read_bytes()
    (tmp_path / "mail" / "b.parquet").write_bytes(whole[: len(whole) // 2])
    source = {"path": "mail", "format": "parquet", "id": "id", "text": "body"}
    document = {"name": "mail", "source": source, "label_set": ["spam", "lake"], "tables": "lake", "steps": ["tag"]}
    (tmp_path / "mail.yaml").write_text(yaml.safe_dump({**document, "model": tiny_bi_encoder}))
    assert main(["run", str(tmp_path / "mail.yaml")]) == 2
    tagging, error = capsys.readouterr().err.splitlines()
    assert tagging == "tag: loading the model and scoring new and changed documents"
    damaged = f"file://{tmp_path}/mail/b.parquet can't be read; it is damaged, cut short or of another format"
    assert error.startswith(f"error: tag of pipeline 'mail': {damaged}")
    runs = stored_rows(tmp_path / "lake" / "runs", "status = 'failed'")
    assert [(row["job"], "b.parquet" in row["message"]) for row in runs] == [("tag", True)]


@pytest.mark.long
def test_a_process_of_its_own_prints_no_chatter_and_takes_any_path_and_locale(
    quick_java: None, tiny_bi_encoder: str, tmp_path: Path
) -> None:
    folder = tmp_path / "straße"
    folder.mkdir()
    (folder / "mail.jsonl").write_text('{"id": "1", "body": "Where is my parcel? 🚚"}\n{"id": "2", "bo\n')
    source = {"path": "mail.jsonl", "format": "json", "id": "id", "text": "body"}
    document = {"name": "mail", "source": source, "label_set": ["spam", "lake"], "tables": "lake"}
    pipeline = folder / "mail.yaml"
    pipeline.write_text(yaml.safe_dump({**document, "model": tiny_bi_encoder, "max_error_ratio": 0.5}))
    (folder / "quick.yaml").write_text(yaml.safe_dump(QUICK_SPARK))
    program = "import sys; from gliclass_spark.cli.app import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "run", str(pipeline), "--conf", str(folder / "quick.yaml")]
    environment = {name: value for name, value in os.environ.items() if name != "LANG"}
    environment |= {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "COLUMNS": "160"}
    done = subprocess.run(command, capture_output=True, env=environment, cwd=folder, timeout=500)
    shown, progress = done.stdout.decode("ascii"), done.stderr.decode("ascii")
    steps = [line.split(":")[0].split(" (")[0] for line in progress.splitlines()]
    assert (done.returncode, steps) == (0, ["starting Spark", "tag", "filter", "route"])
    assert shown.strip().startswith("Run ")
    assert "Where is my parcel? ?" in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["straße"]
    assert (folder / "lake" / "kept" / "_delta_log").is_dir()
