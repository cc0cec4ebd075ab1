"""The servers of `make stack`: atomic creation, clean shutdown, and errors of one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import psutil
import pytest

from devtools.stack import postgres, prepare
from gliclass_spark.errors import StackError

ROOT = Path(__file__).parents[3]
needs_postgres = pytest.mark.skipif(
    not any(Path("/usr/lib/postgresql").glob("*/bin/initdb")), reason="there is no PostgreSQL server here"
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a folder that PostgreSQL's system user may enter."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == Path.home().owner() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o111)
    return tmp_path


@needs_postgres
def test_a_database_survives_a_restart_and_needs_its_owners_password(home: Path) -> None:
    import psycopg2

    passwords = {"stack": "a 'quoted' word", "mlflow": "another\\one"}
    with postgres.started(home / "data", passwords, home / "log") as server:
        server.add("mlflow")
    with postgres.started(home / "data", passwords, home / "log") as server:
        server.add("mlflow")
        address = {"host": "127.0.0.1", "port": server.port, "dbname": "mlflow", "user": "mlflow"}
        psycopg2.connect(**address, password=passwords["mlflow"]).close()
        with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
            psycopg2.connect(**address, password="wrong")
    assert sorted(path.name for path in home.iterdir()) == ["data", "log"]


@needs_postgres
def test_a_wrong_password_is_one_line_and_leaves_no_server(home: Path) -> None:
    with postgres.started(home / "data", {"stack": "right"}, home / "log"):
        pass
    with (
        pytest.raises(StackError, match=r"^PostgreSQL refuses the password of 'stack'; restore the secrets.json"),
        postgres.started(home / "data", {"stack": "wrong"}, home / "log"),
    ):
        pass
    assert not [server for server in psutil.process_iter(["cmdline"]) if str(home) in (server.info["cmdline"] or [])]


@needs_postgres
def test_a_failed_creation_of_a_database_leaves_nothing(home: Path) -> None:
    (home / "file").touch()
    with pytest.raises(NotADirectoryError), postgres.started(home / "file" / "data", {"stack": "word"}, home / "log"):
        pass
    assert [path.name for path in home.iterdir()] == ["file"]


def test_passwords_are_generated_once_and_readable_by_the_owner_only(tmp_path: Path) -> None:
    generated = prepare.passwords(tmp_path)
    assert prepare.passwords(tmp_path) == generated
    assert sorted(generated) == ["airflow", "mlflow", "registry", "spark", "stack", "store"]
    assert len(set(generated.values())) == 6
    assert (tmp_path / "secrets.json").stat().st_mode & 0o077 == 0


def test_passwords_of_an_earlier_version_are_kept(tmp_path: Path) -> None:
    earlier = {"stack": "a", "airflow": "b", "mlflow": "c"}
    (tmp_path / "secrets.json").write_text(json.dumps(earlier))
    completed = prepare.passwords(tmp_path)
    assert completed.items() >= earlier.items()
    assert prepare.passwords(tmp_path) == completed
    assert (tmp_path / "secrets.json").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("text", ["", "[]", json.dumps({"stack": "word"})])
def test_damaged_secrets_are_not_replaced(text: str, tmp_path: Path) -> None:
    (tmp_path / "secrets.json").write_text(text)
    with pytest.raises(StackError, match=r"secrets.json does not hold the passwords of stack, airflow, mlflow"):
        prepare.passwords(tmp_path)
    assert (tmp_path / "secrets.json").read_text() == text


def test_a_full_disk_is_an_error_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**12, 10**12 - 10**9, 10**9))
    with pytest.raises(StackError, match=r"has 1.0 GB free, and the stack needs 4; free space"):
        prepare.check_disk_space(tmp_path)


def test_the_configuration_of_the_containers_gets_paths_of_this_machine(tmp_path: Path) -> None:
    folder = prepare.configuration(ROOT, tmp_path, "spark://127.0.0.1:1234")
    text = "".join(path.read_text() for path in folder.rglob("*.yaml"))
    assert "spark.master: spark://127.0.0.1:1234\n" in text
    assert f"work: {tmp_path}/work/retrain\n" in text
    assert "/var/lib/gliclass" not in text
