"""Commands that need no Spark."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gliclass_spark.cli.app import main


def test_help_names_every_command_and_needs_neither_torch_nor_spark() -> None:
    program = (
        "import sys; from gliclass_spark.cli.app import main; code = main(['--help']); "
        "print([name for name in ('torch', 'pyspark', 'transformers') if name in sys.modules], code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    for command in ("run", "tag", "filter", "route", "demo", "classify", "train", "evaluate", "feedback"):
        assert command in done.stdout
    assert done.stdout.splitlines()[-1] == "[] 0"


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
