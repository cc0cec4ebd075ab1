"""Commands that need no Spark."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from gliclass_spark.cli.app import app, main


def test_help_names_every_command_and_needs_neither_torch_nor_spark() -> None:
    program = (
        "import sys; from gliclass_spark.cli.app import main; code = main(['--help']); "
        "print([name for name in ('torch', 'pyspark', 'transformers') if name in sys.modules], code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    for command in ("run", "tag", "filter", "route", "demo", "classify", "train", "evaluate", "feedback"):
        assert command in done.stdout
    assert done.stdout.splitlines()[-1] == "[] 0"


def test_every_command_that_starts_spark_can_print_what_spark_prints() -> None:
    commands = typer.main.get_command(app).commands.values()
    options = {command.name: {name for each in command.params for name in each.opts} for command in commands}
    starts_spark = {name for name, names in options.items() if "--conf" in names}
    assert {"run", "plan", "feedback", "retrain"} <= starts_spark
    assert [name for name in starts_spark if "--verbose" not in options[name]] == []


def test_a_command_limits_the_spinning_of_torch_threads() -> None:
    program = (
        "import os; from gliclass_spark.cli.app import main; main(['--help']); print(os.environ['GOMP_SPINCOUNT'])"
    )
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_"))}
    done = subprocess.run([sys.executable, "-c", program], env=inherited, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "5000"


def test_an_output_that_lacks_a_character_gets_a_question_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii"))
    assert main(["classify", "--labels", "parcel,invoice", "Where is my parcel? 🚚"]) == 0
    sys.stdout.flush()
    assert "Where is my parcel? ?" in printed.getvalue().decode("ascii")


def test_input_in_another_encoding_is_an_error_of_its_text(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mails = "Grüße aus Köln\nWhere is my parcel?\n".encode("latin-1")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(mails), encoding="utf-8"))
    assert main(["classify", "--labels", "parcel,invoice"]) == 0
    shown = capsys.readouterr().out
    assert "the text is not valid Unicode" in shown
    assert "Where is my parcel?" in shown


def test_a_file_that_can_not_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels, data, out = tmp_path / "labels.yaml", tmp_path / "mail.jsonl", tmp_path / "none" / "out.yaml"
    labels.write_text("labels: [parcel, invoice]\n")
    rows = [
        {"text": f"{name} number {number}", "labels": name} for name in ("parcel", "invoice") for number in range(4)
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["calibrate", "--labels", str(labels), "--data", str(data), "--out", str(out)]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"error: {out}: No such file or directory; check the")
    (tmp_path / "two").mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / "two" / name).write_bytes(data.read_bytes())
    assert main(["calibrate", "--labels", str(labels), "--data", str(tmp_path / "two"), "--out", str(out)]) == 2
    assert "holds 2 tables, and a label set is calibrated on one" in capsys.readouterr().err


def test_an_unknown_command_and_a_missing_file_exit_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tagg"]) == 2
    assert "tagg" in capsys.readouterr().err
    missing = tmp_path / "none.yaml"
    assert main(["run", str(missing)]) == 2
    assert capsys.readouterr().err == f"error: {missing} does not exist; check the path\n"


def test_classify_shows_each_text_with_its_scores(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", "--labels", "cats,databases", "A query planner for SQL", " "]) == 0
    printed = capsys.readouterr().out
    assert "A query planner for SQL" in printed
    assert "databases " in printed
    assert "the text is empty or white space" in printed


def test_classify_takes_dotted_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", "--labels", "topic.cats, topic.databases", "A query planner for SQL"]) == 0
    assert "topic.databases " in capsys.readouterr().out


def test_classify_shows_nested_labels_branch_by_branch(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mail.yaml"
    path.write_text("threshold: 0\nlabels: {mood: [glad], topic: {data: [cats, databases]}}\n")
    assert main(["classify", "--labels", str(path), "A query planner for SQL"]) == 0
    text, mood, data = capsys.readouterr().out.splitlines()[-3:]
    assert text == "A query planner for SQL"
    assert mood.startswith("  mood: *glad 0.")
    assert data.startswith("  topic.data: *databases 0.")
    assert "*cats 0." in data


def test_classify_refuses_bad_labels_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", "--labels", "a,a", "text"]) == 2
    assert capsys.readouterr().err == "error: LabelSet.of: labels: label 'a' appears twice; remove one\n"
