"""Commands in scripts: JSON, pipes, environment variables, completion, metrics."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import typer
from sample_runs import run_of, tag

import gliclass_spark
from gliclass_spark.checkpoints.registry import Registry
from gliclass_spark.cli.app import app, main
from gliclass_spark.cli.cluster_size import Executor, Workload
from gliclass_spark.cli.output.plan_output import plan_document
from gliclass_spark.cli.output.run_metrics import prometheus_text
from gliclass_spark.cli.output.run_output import run_document
from gliclass_spark.cli.text_stream import line_batches
from gliclass_spark.runs.due.retraining_due import RetrainingDue

PROGRAM = [sys.executable, "-c", "import sys; from gliclass_spark.cli.app import main; sys.exit(main())"]
LABELS = ("--labels", "parcel,invoice")


def json_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_version_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"gliclass-spark {gliclass_spark.__version__}\n"


def test_classify_writes_a_json_line_for_each_line_of_standard_input(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = "Where is my parcel?\r\n\nGrüße 🚚, ".encode() + b"\xff\nno newline at the end"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines), encoding="utf-8"))
    assert main(["classify", *LABELS]) == 0
    first, blank, undecodable, last = json_lines(capsys)
    scores = first.pop("scores")
    assert first == {
        "text": "Where is my parcel?",
        "labels": ["parcel"],
        "error": None,
        "token_count": 5,
        "chunk_count": 1,
    }
    assert set(scores) == {"parcel", "invoice"}
    assert scores["parcel"] > 0.5 > scores["invoice"]
    assert blank == {
        "text": "",
        "labels": [],
        "scores": {},
        "error": {"code": "empty_text", "message": "the text is empty or white space"},
        "token_count": 0,
        "chunk_count": 0,
    }
    assert undecodable["text"] == "Grüße 🚚, \udcff"
    assert undecodable["error"]["code"] == "undecodable_text"
    assert last["text"] == "no newline at the end"


def test_a_dash_is_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Where is my parcel?\n"), encoding="utf-8"))
    assert main(["classify", *LABELS, "-"]) == 0
    assert [document["text"] for document in json_lines(capsys)] == ["Where is my parcel?"]


def test_a_text_that_is_a_file_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mails.txt").write_text("Where is my parcel?\n")
    assert main(["classify", *LABELS, "mails.txt", "Where is my parcel? " * 300]) == 0
    _, note = capsys.readouterr().err.splitlines()
    assert note == "note: mails.txt is taken for a text; to classify the lines of the file, write < mails.txt"


def test_a_note_on_a_terminal_says_that_texts_are_awaited(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, b"Where is my parcel?\n\x04")
    with os.fdopen(theirs) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        assert main(["classify", *LABELS]) == 0
    os.close(ours)
    printed = capsys.readouterr()
    assert json.loads(printed.out)["labels"] == ["parcel"]
    assert printed.err.splitlines()[1:] == ["reading texts from this terminal, one on each line; Ctrl-D ends"]


def test_classify_json_of_arguments_is_escaped_where_the_output_lacks_a_character(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii"))
    assert main(["classify", *LABELS, "--json", "Where is my parcel? 🚚", "Rechnung"]) == 0
    lines = printed.getvalue().decode("ascii").splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["Where is my parcel? 🚚", "Rechnung"]


class Pipe(io.RawIOBase):
    """An endless pipe: each read returns the next chunk, and `reads` counts them."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks, self.reads = chunks, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.reads += 1
        chunk = next(self.chunks, b"")
        buffer[: len(chunk)] = chunk
        return len(chunk)


def batches_of(*chunks: bytes) -> tuple[Pipe, Iterator[list[str]]]:
    pipe = Pipe(iter(chunks))
    return pipe, line_batches(io.TextIOWrapper(io.BufferedReader(pipe), encoding="utf-8"))


def test_lines_are_read_when_they_arrive_and_not_before_they_are_needed() -> None:
    pipe, batches = batches_of(b"a\nb\n", b"c", b"d\ne", b"f")
    assert (next(batches), pipe.reads) == (["a", "b"], 1)
    assert (next(batches), pipe.reads) == (["cd"], 3)
    assert list(batches) == [["ef"]]


def test_a_long_line_and_a_split_character_are_whole() -> None:
    text = "ä" * 50_000
    encoded = text.encode() + b"\n"
    _, batches = batches_of(*(encoded[start : start + 777] for start in range(0, len(encoded), 777)))
    assert list(batches) == [[text]]


def test_an_endless_stream_is_read_in_batches_of_bounded_size() -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"a line\n" * 1000

    batches = line_batches(io.TextIOWrapper(io.BufferedReader(Pipe(endless())), encoding="utf-8"))
    assert max(sum(map(len, batch)) for batch in islice(batches, 200)) <= 65_536


def test_a_closed_pipe_ends_classify_silently_with_the_code_of_sigpipe() -> None:
    texts = (" " * 999 + "\n") * 4_000  # more than all buffers hold; blank texts are not scored
    classify = subprocess.Popen(
        [*PROGRAM, "classify", *LABELS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert classify.stdin is not None
        assert classify.stdout is not None
        assert classify.stderr is not None
        classify.stdin.write("Where is my parcel?\n")
        classify.stdin.flush()
        assert json.loads(classify.stdout.readline())["labels"] == ["parcel"]  # before the input ends
        classify.stdout.close()
        with pytest.raises(BrokenPipeError):
            classify.stdin.write(texts)
        [engine] = classify.stderr.read().splitlines()
        assert (classify.wait(timeout=60), engine.split("(")[0]) == (141, "Engine")
    finally:
        classify.kill()


def test_progress_is_on_a_terminal_of_standard_error_and_not_in_the_output(tmp_path: Path) -> None:
    (tmp_path / "mails.txt").write_text("Where is my parcel?\n" * 100)
    ours, theirs = pty.openpty()
    with (tmp_path / "mails.txt").open() as mails:
        program = [*PROGRAM, "classify", *LABELS]
        classify = subprocess.Popen(program, stdin=mails, stdout=subprocess.PIPE, stderr=theirs, text=True)
    os.close(theirs)
    printed, _ = classify.communicate(timeout=120)
    shown = os.read(ours, 65_536).decode()
    os.close(ours)
    assert (classify.returncode, len(printed.splitlines())) == (0, 100), shown
    assert "100 texts" in shown
    assert all(json.loads(line)["labels"] == ["parcel"] for line in printed.splitlines())


def test_every_option_has_a_variable_named_by_its_command_and_flag() -> None:
    group: Any = typer.main.get_command(app)
    variables = {
        (name, option.opts[0]): option.envvar
        for name in group.commands
        for option in group.get_command(None, name).params
        if option.param_type_name == "option"
    }
    assert variables["plan", "--texts-per-s"] == ["GLICLASS_SPARK_PLAN_TEXTS_PER_S"]
    assert variables["models", "--json"] == ["GLICLASS_SPARK_MODELS_JSON"]
    assert variables["run", "--conf"] == ["GLICLASS_SPARK_RUN_CONF", "GLICLASS_SPARK_CONF"]
    first = [names[0] for names in variables.values()]
    assert len(set(first)) == len(first)
    assert all(name.startswith("GLICLASS_SPARK_") for name in first)


def test_an_option_is_read_from_the_environment_and_the_command_line_goes_first(
    two_versions: Registry, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    monkeypatch.setenv("GLICLASS_SPARK_REGISTRY", two_versions.uri)
    monkeypatch.setenv("GLICLASS_SPARK_MODELS_JSON", "1")
    assert main(["models", "mail"]) == 0
    [models] = json_lines(capsys)
    assert models["name"] == "mail"
    assert [(version["uri"], version["aliases"]) for version in models["versions"]] == [
        ("models:/mail/2", ["challenger"]),
        ("models:/mail/1", ["champion"]),
    ]
    assert models["versions"][0]["created_at"] == two_versions.version("mail", "2").created_at.isoformat()
    assert main(["models", "mail", "--registry", "sqlite:////nowhere/mlflow.db"]) != 0


def test_a_shell_completes_commands() -> None:
    words = {"COMP_WORDS": "gliclass-spark cla", "COMP_CWORD": "1", "_GLICLASS_SPARK_COMPLETE": "complete_bash"}
    done = subprocess.run(PROGRAM, env={**os.environ, **words}, capture_output=True, text=True, check=True)
    assert done.stdout == "classify\n"


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_help_without_color_has_no_escape_codes(variables: dict[str, str]) -> None:
    environment = {**os.environ, "FORCE_COLOR": "", **variables}
    done = subprocess.run([*PROGRAM, "--help"], env=environment, capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stdout
    assert "GLICLASS_SPARK_PLAN_SAMPLE" in done.stdout


def test_a_plan_as_json_has_the_size_of_the_cluster() -> None:
    from gliclass_spark.spark.jobs.plan import Plan, PlannedOutcome

    planned = Plan(10, 8, 4, 100, 2.0, 4.0, [PlannedOutcome("kept", 2, 8)])
    assert plan_document("mail", planned, None, Executor()) == {
        "pipeline": "mail",
        "documents": 10,
        "to_tag": 8,
        "sampled": 4,
        "tokens": 100,
        "seconds": 2.0,
        "texts_per_s": 4.0,
        "outcomes": [{"outcome": "kept", "scored": 2, "estimated": 8, "samples": []}],
        "cluster": None,
    }
    sized = plan_document("mail", planned, Workload(1_000_000_000, 2000, 8), Executor(4, 12.0))["cluster"]
    assert (sized["executors"], sized["slots"]) == (6, 4)


def test_a_run_as_json_is_its_manifests() -> None:
    manifests = run_of(tag(1, {"invoice": 400}), {"too_short": 100}, {"billing": 300})
    document = run_document(manifests)
    assert (document["run_id"], document["pipeline"]) == ("run-1", "support_mail")
    assert [(step["job"], step["status"]) for step in document["steps"]] == [
        ("tag", "succeeded"),
        ("filter", "succeeded"),
        ("route", "succeeded"),
    ]
    assert document["retraining"] is None
    due = run_document(manifests, RetrainingDue(True, ("a reason",)))["retraining"]
    assert (due["due"], due["reasons"]) == (True, ("a reason",))


METRICS = [
    "# HELP gliclass_spark_job_success 1 if the last run of the job succeeded, else 0.",
    "# TYPE gliclass_spark_job_success gauge",
    'gliclass_spark_job_success{pipeline="support_mail",job="tag"} 1',
    'gliclass_spark_job_success{pipeline="support_mail",job="filter"} 1',
    "# HELP gliclass_spark_job_finished_timestamp_seconds When the last run of the job ended, in seconds since 1970.",
    "# TYPE gliclass_spark_job_finished_timestamp_seconds gauge",
    'gliclass_spark_job_finished_timestamp_seconds{pipeline="support_mail",job="tag"} 1793584900',
    'gliclass_spark_job_finished_timestamp_seconds{pipeline="support_mail",job="filter"} 1793584920',
    "# HELP gliclass_spark_job_duration_seconds Duration of the last run of the job.",
    "# TYPE gliclass_spark_job_duration_seconds gauge",
    'gliclass_spark_job_duration_seconds{pipeline="support_mail",job="tag"} 100',
    'gliclass_spark_job_duration_seconds{pipeline="support_mail",job="filter"} 20',
    "# HELP gliclass_spark_step_duration_seconds Duration of each step of the job's last run.",
    "# TYPE gliclass_spark_step_duration_seconds gauge",
    'gliclass_spark_step_duration_seconds{pipeline="support_mail",job="tag",step="score"} 90.5',
    'gliclass_spark_step_duration_seconds{pipeline="support_mail",job="filter",step="score"} 90.5',
    "# HELP gliclass_spark_rows_in Documents that the job decided about in the last run.",
    "# TYPE gliclass_spark_rows_in gauge",
    'gliclass_spark_rows_in{pipeline="support_mail",job="tag"} 1000',
    'gliclass_spark_rows_in{pipeline="support_mail",job="filter"} 1000',
    "# HELP gliclass_spark_rows Rows of the last run by outcome.",
    "# TYPE gliclass_spark_rows gauge",
    'gliclass_spark_rows{pipeline="support_mail",job="tag",outcome="tagged"} 1000',
    'gliclass_spark_rows{pipeline="support_mail",job="filter",outcome="kept"} 900',
    'gliclass_spark_rows{pipeline="support_mail",job="filter",outcome="quarantined"} 0',
    "# HELP gliclass_spark_rejected_rows Rejected rows of the last run by reason.",
    "# TYPE gliclass_spark_rejected_rows gauge",
    'gliclass_spark_rejected_rows{pipeline="support_mail",job="filter",reason="too_short"} 100',
    "# HELP gliclass_spark_labelled_documents Documents tagged in the last run, by label.",
    "# TYPE gliclass_spark_labelled_documents gauge",
    'gliclass_spark_labelled_documents{pipeline="support_mail",job="tag",label="in\\\\voice \\"x\\"\\n"} 400',
    "# HELP gliclass_spark_tokens Tokens scored in the last run.",
    "# TYPE gliclass_spark_tokens gauge",
    'gliclass_spark_tokens{pipeline="support_mail",job="tag"} 143000',
    'gliclass_spark_tokens{pipeline="support_mail",job="filter"} 143000',
    "# HELP gliclass_spark_texts_per_second Texts scored per second in the last run.",
    "# TYPE gliclass_spark_texts_per_second gauge",
    'gliclass_spark_texts_per_second{pipeline="support_mail",job="tag"} 200',
    "# HELP gliclass_spark_padding_ratio Padding over all tokens computed in the last run.",
    "# TYPE gliclass_spark_padding_ratio gauge",
    'gliclass_spark_padding_ratio{pipeline="support_mail",job="tag"} 0.25',
    'gliclass_spark_padding_ratio{pipeline="support_mail",job="filter"} 0.25',
    "# HELP gliclass_spark_model_loads Times that the last run loaded the model.",
    "# TYPE gliclass_spark_model_loads gauge",
    'gliclass_spark_model_loads{pipeline="support_mail",job="tag"} 2',
    'gliclass_spark_model_loads{pipeline="support_mail",job="filter"} 2',
]


def test_metrics_are_prometheus_text() -> None:
    manifest = replace(tag(1, {'in\\voice "x"\n': 400}), padding_share=0.25, step_seconds={"score": 90.5})
    filtered = run_of(manifest, {"too_short": 100}, {})[1]
    assert prometheus_text([manifest, filtered]).splitlines() == METRICS


def test_metrics_are_written_to_one_file(tmp_path: Path) -> None:
    from gliclass_spark.cli.output.run_metrics import write_metrics

    write_metrics(tmp_path / "mail.prom", run_of(tag(1, {"invoice": 400}), {}, {"billing": 300}))
    assert [path.name for path in tmp_path.iterdir()] == ["mail.prom"]
    written = (tmp_path / "mail.prom").read_text()
    assert 'gliclass_spark_routed_rows{pipeline="support_mail",job="route",route="billing"} 300\n' in written
