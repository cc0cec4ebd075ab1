"""PostgreSQL in a folder of its own, with a database for each of those that ask for one."""

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

from devtools.stack.service import Service, free_port
from devtools.stack.service import started as service_started
from gliclass_spark.errors import StackError

_ADMIN = "stack"


@dataclass(frozen=True)
class Postgres:
    """A server at work. Everyone logs in with a password, on this machine too."""

    port: int
    passwords: Mapping[str, str]

    def address(self, name: str) -> str:
        """The SQLAlchemy address of the database `name`, which its role of the same name owns."""
        return f"postgresql+psycopg2://{name}:{self.passwords[name]}@127.0.0.1:{self.port}/{name}"

    def add(self, name: str) -> None:
        """The database and its role, if they are not there yet."""
        with self._asked() as cursor:
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (name,))
            made = sql.SQL("ALTER ROLE {} PASSWORD {}" if cursor.fetchone() else "CREATE ROLE {} LOGIN PASSWORD {}")
            cursor.execute(made.format(sql.Identifier(name), sql.Literal(self.passwords[name])))
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if not cursor.fetchone():
                cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(*[sql.Identifier(name)] * 2))

    def problem(self) -> str | None:
        """Why nobody can log in just now; None if one can. Raises StackError for a wrong password."""
        try:
            with self._asked():
                return None
        except psycopg2.OperationalError as error:
            reason = " ".join(str(error).split())
            if "password authentication failed" in reason:
                raise StackError(
                    f"PostgreSQL refuses the password of {_ADMIN!r}; put back the secrets.json that its folder was "
                    "made with, or remove the folder and lose what is in it"
                ) from None
            return reason

    @contextmanager
    def _asked(self) -> Iterator[psycopg2.extensions.cursor]:
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, dbname="postgres", user=_ADMIN, password=self.passwords[_ADMIN]
        )
        connection.autocommit = True  # CREATE DATABASE takes no transaction
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()


@contextmanager
def started(folder: Path, passwords: Mapping[str, str], log: Path) -> Iterator[Postgres]:
    """PostgreSQL on a port of its own, until the block ends. A folder that is not there is made, whole or not at all.

    passwords: by name; "stack" is the administrator. As root it runs as the user `postgres`, as it insists.
    Raises StackError.
    """
    programs, user = _programs(), "postgres" if os.geteuid() == 0 else None
    if not folder.exists():
        _init(programs, folder, passwords[_ADMIN], user)
    server = Postgres(free_port(), passwords)
    command = [str(programs / "postgres"), "-D", str(folder), "-p", str(server.port), "-k", ""]
    service = Service("PostgreSQL", command, _environment(), log, user, signal.SIGINT)
    with service_started(service, server.problem):
        yield server


def _init(programs: Path, folder: Path, password: str, user: str | None) -> None:
    aside, word = (folder.with_name(f"{folder.name}.{part}") for part in ("partly", "password"))
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(mode=0o700, parents=True)
    word.touch(mode=0o600)
    try:
        word.write_text(password, encoding="utf-8")
        if user is not None:
            shutil.chown(aside, user, user)
            shutil.chown(word, user, user)
        options = ["--auth=scram-sha-256", f"--username={_ADMIN}", f"--pwfile={word}", "--encoding=UTF8"]
        done = subprocess.run(  # noqa: S603 - a list of our own
            [str(programs / "initdb"), "-D", str(aside), *options],
            capture_output=True,
            text=True,
            check=False,
            user=user,
            group=user,
            extra_groups=[] if user else None,
            env=_environment(),
        )
        if done.returncode:
            reason = done.stderr.strip().splitlines()[-1:] or ["it did not say why"]
            raise StackError(f"PostgreSQL could not make {folder}: {reason[0]}")
        aside.rename(folder)
    finally:
        word.unlink(missing_ok=True)
        shutil.rmtree(aside, ignore_errors=True)


def _environment() -> dict[str, str]:
    """None of the user's own PGHOST, PGDATA and the like."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}


def _programs() -> Path:
    """Where initdb and postgres are: Debian keeps them off the PATH. The newest, if there are several."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[-3]))
    on_path = shutil.which("postgres")
    if not found and on_path is None:
        raise StackError(
            "there is no PostgreSQL server here; install one (Debian and Ubuntu: apt-get install postgresql)"
        )
    return (found[-1] if found else Path(str(on_path)).resolve()).parent
