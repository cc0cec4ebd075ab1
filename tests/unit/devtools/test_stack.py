"""The servers of `make stack` start whole or not at all, and what is wrong is one line."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import psutil
import pytest

from devtools.stack import postgres, prepare
from devtools.stack.service import Service, started
from gliclass_spark.errors import StackError

ROOT = Path(__file__).parents[3]
needs_postgres = pytest.mark.skipif(
    not any(Path("/usr/lib/postgresql").glob("*/bin/initdb")), reason="there is no PostgreSQL server here"
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A folder that PostgreSQL's own user may pass through, too."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == Path.home().owner() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o111)
    return tmp_path


@needs_postgres
def test_a_database_is_there_again_after_a_restart_and_its_owner_logs_in_with_a_password(home: Path) -> None:
    import psycopg2

    words = {"stack": "a 'quoted' word", "mlflow": "another\\one"}
    with postgres.started(home / "data", words, home / "log") as server:
        server.add("mlflow")
    with postgres.started(home / "data", words, home / "log") as server:
        server.add("mlflow")
        place = {"host": "127.0.0.1", "port": server.port, "dbname": "mlflow", "user": "mlflow"}
        psycopg2.connect(**place, password=words["mlflow"]).close()
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(**place, password="wrong")
    assert sorted(path.name for path in home.iterdir()) == ["data", "log"]


@needs_postgres
def test_a_wrong_password_is_one_line_and_leaves_no_server_behind(home: Path) -> None:
    with postgres.started(home / "data", {"stack": "right"}, home / "log"):
        pass
    with (
        pytest.raises(StackError, match=r"^PostgreSQL refuses the password of 'stack'; put back the secrets.json"),
        postgres.started(home / "data", {"stack": "wrong"}, home / "log"),
    ):
        pass
    assert not [each for each in psutil.process_iter(["cmdline"]) if str(home) in (each.info["cmdline"] or [])]


@needs_postgres
def test_a_database_that_cannot_be_made_leaves_nothing(home: Path) -> None:
    (home / "file").touch()
    with pytest.raises(NotADirectoryError), postgres.started(home / "file" / "data", {"stack": "word"}, home / "log"):
        pass
    assert [path.name for path in home.iterdir()] == ["file"]


def test_passwords_are_made_once_and_only_the_owner_reads_them(tmp_path: Path) -> None:
    made = prepare.passwords(tmp_path)
    assert prepare.passwords(tmp_path) == made
    assert len(set(made.values())) == 3
    assert (tmp_path / "secrets.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("text", ["", "[]", json.dumps({"stack": "word"})])
def test_secrets_that_are_damaged_are_not_made_anew(text: str, tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text(text)
    with pytest.raises(StackError, match=r"secrets.json does not hold the passwords of stack, airflow, mlflow"):
        prepare.passwords(tmp_path)
    assert (tmp_path / "secrets.json").read_text() == text


def test_a_full_disk_is_told_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12 - 10**9, 10**9))
    with pytest.raises(StackError, match=r"has 1.0 GB free, and the stack needs 4; make room"):
        prepare.check_room(tmp_path)


def test_the_files_of_the_containers_name_this_machines_places(tmp_path: Path) -> None:
    folder = prepare.configuration(ROOT, tmp_path, "spark://127.0.0.1:1234")
    text = "".join(path.read_text() for path in folder.rglob("*.yaml"))
    assert "spark.master: spark://127.0.0.1:1234\n" in text
    assert f"work: {tmp_path}/work/retrain\n" in text
    assert "/var/lib/gliclass" not in text


def test_a_server_that_ends_says_its_last_line(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; sys.exit('the port is taken')"]
    service = Service("the store", command, dict(os.environ), tmp_path / "log")
    with (
        pytest.raises(StackError, match=r"^the store ended with 1: the port is taken; see "),
        started(service, lambda: "nobody answers"),
    ):
        pass


def test_a_server_that_answers_late_is_waited_for_and_ended_with_all_it_started(tmp_path: Path) -> None:
    program = (
        "import subprocess, sys, time; subprocess.Popen(['sleep', '600']); open(sys.argv[1], 'w'); time.sleep(600)"
    )
    service = Service("late", [sys.executable, "-c", program, str(tmp_path / "up")], dict(os.environ), tmp_path / "log")
    with started(service, lambda: None if (tmp_path / "up").exists() else "not yet") as process:
        children = psutil.Process(process.pid).children()
        assert len(children) == 1
    assert process.poll() is not None
    assert psutil.wait_procs(children, timeout=30)[1] == []
