"""Prerequisites of the stack: disk space, ports, secrets, jars, server environments and configuration."""

from __future__ import annotations

import json
import secrets
import shutil
import socket
import subprocess
from pathlib import Path

from gliclass_spark.errors import StackError

NEEDED_GB = 4
START_TIMEOUT_S = 240
_ROLES = ("stack", "airflow", "mlflow")
_LOGINS = ("registry", "store", "spark")


def check_disk_space(folder: Path) -> None:
    """Raise StackError unless 4 GB are free on the folder's disk."""
    free_gb = shutil.disk_usage(folder).free / 1e9
    if free_gb < NEEDED_GB:
        raise StackError(
            f"{folder} has {free_gb:.1f} GB free, and the stack needs {NEEDED_GB}; free space, or set another --home"
        )


def passwords(home: Path) -> dict[str, str]:
    """Return the passwords of the databases' roles, and those of the other servers: registry, store, spark.

    They are generated at the first call, and readable by the owner only. Raises StackError if the file is damaged.
    """
    file = home / "secrets.json"
    if not file.exists():
        _write_secrets(file, {name: secrets.token_urlsafe(24) for name in (*_ROLES, *_LOGINS)})
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        known = {name: str(stored[name]) for name in _ROLES}
    except (ValueError, KeyError, TypeError):
        raise StackError(f"{file} does not hold the passwords of {', '.join(_ROLES)}; put it back as it was") from None
    # A stack of an earlier version has the roles only. The others are not stored by any server.
    logins = {name: str(stored.get(name) or secrets.token_urlsafe(24)) for name in _LOGINS}
    if stored != {**known, **logins}:
        _write_secrets(file, {**known, **logins})
    return {**known, **logins}


def _write_secrets(file: Path, content: dict[str, str]) -> None:
    temporary = file.with_suffix(".tmp")  # not atomic_files, whose files others may read
    temporary.touch(mode=0o600)
    temporary.write_text(json.dumps(content), encoding="utf-8")
    temporary.rename(file)


def build(root: Path, script: str, folder: Path, *arguments: str) -> Path:
    """Return the folder that a script of docker/ creates; an existing folder is kept. Raises StackError."""
    if not folder.exists():
        command = [str(root / "docker" / script), str(folder), *arguments]
        process = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if process.returncode:
            output = (process.stderr or process.stdout).strip().splitlines() or ["no output"]
            raise StackError(f"docker/{script} could not create {folder}: {output[-1]}")
    return folder


def free_port() -> int:
    """Return a port of this machine that no process listens on."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return int(listening.getsockname()[1])


def configuration(root: Path, home: Path, master_url: str) -> Path:
    """Copy conf/ and docker/conf, with paths of this machine for those of the containers; return docker/conf's copy."""
    target = home / "files"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(root / "conf", target / "conf")
    for file in sorted((root / "docker" / "conf").rglob("*.yaml")):
        text = file.read_text(encoding="utf-8")
        text = text.replace("spark://spark-master:7077", master_url).replace(
            "/var/lib/gliclass/work", str(home / "work")
        )
        copy = target / file.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(text, encoding="utf-8")
    return target / "docker" / "conf"
