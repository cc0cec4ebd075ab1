"""PostgreSQL server in a folder of the stack, with a database and a role for each service."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from psycopg2 import sql

from devtools.stack.prepare import START_TIMEOUT_S, free_port
from gliclass_spark.airflow.operators.process_group import ProcessGroup
from gliclass_spark.errors import StackError

_ADMIN = "stack"


@dataclass(frozen=True)
class Postgres:
    """A running server. All clients log in with a password, local ones too."""

    port: int
    passwords: Mapping[str, str]

    def url(self, name: str) -> str:
        """Return the SQLAlchemy URL of a database, which the role of the same name owns."""
        return f"postgresql+psycopg2://{name}:{self.passwords[name]}@127.0.0.1:{self.port}/{name}"

    def add(self, name: str) -> None:
        """Create the database and its role unless they exist."""
        with self._admin_cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,))
            statement = sql.SQL(
                "ALTER ROLE {} PASSWORD {}" if cursor.fetchone() else "CREATE ROLE {} LOGIN PASSWORD {}"
            )
            cursor.execute(statement.format(sql.Identifier(name), sql.Literal(self.passwords[name])))
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if not cursor.fetchone():
                cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*[sql.Identifier(name)] * 2))

    def problem(self) -> str | None:
        """Return why logging in fails, None if it does not. Raises StackError for a wrong password."""
        try:
            with self._admin_cursor():
                return None
        except psycopg2.OperationalError as error:
            reason = " ".join(str(error).split())
            if "password authentication failed" in reason:
                raise StackError(
                    f"PostgreSQL refuses the password of {_ADMIN!r}; restore the secrets.json that its folder was "
                    "created with, or remove the folder and its data"
                ) from None
            return reason

    @contextmanager
    def _admin_cursor(self) -> Iterator[psycopg2.extensions.cursor]:
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, dbname="postgres", user=_ADMIN, password=self.passwords[_ADMIN]
        )
        connection.autocommit = True  # CREATE DATABASE can't run in a transaction
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()


@contextmanager
def started(folder: Path, passwords: Mapping[str, str], log: Path) -> Iterator[Postgres]:
    """Run PostgreSQL on a free port until the block ends. A missing data folder is created atomically.

    passwords: by role; "stack" is the administrator. As root, the server runs as the user `postgres`: it refuses
    to run as root. Raises StackError.
    """
    programs, user = _programs(), "postgres" if os.geteuid() == 0 else None
    if not folder.exists():
        _init(programs, folder, passwords[_ADMIN], user)
    server = Postgres(free_port(), passwords)
    command = [str(programs / "postgres"), "-D", str(folder), "-p", str(server.port), "-k", ""]
    # SIGINT is PostgreSQL's fast shutdown.
    with ProcessGroup("PostgreSQL", command, env=_environment(), log=log, user=user, stop=signal.SIGINT) as process:
        process.wait_until_ready(server.problem, START_TIMEOUT_S)
        yield server


def _init(programs: Path, folder: Path, password: str, user: str | None) -> None:
    temporary, password_file = (folder.with_name(f"{folder.name}.{part}") for part in ("tmp", "password"))
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700, parents=True)
    password_file.touch(mode=0o600)
    try:
        password_file.write_text(password, encoding="utf-8")
        if user is not None:
            shutil.chown(temporary, user, user)
            shutil.chown(password_file, user, user)
        options = ["--auth=scram-sha-256", f"--username={_ADMIN}", f"--pwfile={password_file}", "--encoding=UTF8"]
        process = subprocess.run(  # noqa: S603
            [str(programs / "initdb"), "-D", str(temporary), *options],
            capture_output=True,
            text=True,
            check=False,
            user=user,
            group=user,
            extra_groups=[] if user else None,
            env=_environment(),
        )
        if process.returncode:
            reason = process.stderr.strip().splitlines()[-1:] or ["no output"]
            raise StackError(f"PostgreSQL could not create {folder}: {reason[0]}")
        temporary.rename(folder)
    finally:
        password_file.unlink(missing_ok=True)
        shutil.rmtree(temporary, ignore_errors=True)


def _environment() -> dict[str, str]:
    """Return an environment without the user's PGHOST, PGDATA and other settings."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}


def _programs() -> Path:
    """Return the folder of the newest initdb and postgres. Debian keeps them off the PATH."""
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("postgres")
    if not installed and on_path is None:
        raise StackError(
            "there is no PostgreSQL server here; install one (Debian and Ubuntu: apt-get install postgresql)"
        )
    return (installed[-1] if installed else Path(str(on_path)).resolve()).parent
