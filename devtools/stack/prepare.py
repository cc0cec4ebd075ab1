"""What the stack needs before its first server starts: room, secrets, jars, and the environments of the servers."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
from pathlib import Path

from gliclass_spark.errors import StackError

NEEDED_GB = 4
_NAMES = ("stack", "airflow", "mlflow")


def check_room(folder: Path) -> None:
    """Raises StackError unless 4 GB are free where the folder is."""
    free_gb = shutil.disk_usage(folder).free / 1e9
    if free_gb < NEEDED_GB:
        raise StackError(
            f"{folder} has {free_gb:.1f} GB free, and the stack needs {NEEDED_GB}; make room, or name another --home"
        )


def passwords(home: Path) -> dict[str, str]:
    """The passwords of the databases, made up the first time, which only the owner may read. Raises StackError."""
    file = home / "secrets.json"
    if not file.exists():
        aside = file.with_suffix(".partly")
        aside.touch(mode=0o600)
        aside.write_text(json.dumps({name: secrets.token_urlsafe(24) for name in _NAMES}), encoding="utf-8")
        aside.rename(file)
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {name: str(found[name]) for name in _NAMES}
    except (ValueError, KeyError, TypeError):
        raise StackError(f"{file} does not hold the passwords of {', '.join(_NAMES)}; put it back as it was") from None


def built(root: Path, script: str, folder: Path, *arguments: str) -> Path:
    """The folder that a script under docker/ makes, whole or not at all; one that is there stays as it is."""
    if not folder.exists():
        command = [str(root / "docker" / script), str(folder), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own script
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines() or ["it did not say why"]
            raise StackError(f"docker/{script} could not make {folder}: {said[-1]}")
    return folder


def configuration(root: Path, home: Path, master_url: str) -> Path:
    """A copy of conf/ and docker/conf, with this machine's places for those of the containers. Gives docker/conf's."""
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
