"""Folders without rights: a job names the path and the right, and exits with 2."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from deltalake import write_deltalake
from pyarrow import table

# For root, file modes say nothing unless it gives up the capabilities that override them.
SUPERUSER = os.geteuid() == 0
WITHOUT_OVERRIDE = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if SUPERUSER else []
COMMAND = "import sys; from gliclass_spark.cli.app import main; sys.exit(main())"

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(SUPERUSER and shutil.which("setpriv") is None, reason="root needs setpriv to give up rights"),
]


@pytest.mark.parametrize(
    ("folder", "mode", "right"),
    [
        ("mail", 0o000, "the right to read {folder}/mail is missing"),
        ("mail/_delta_log", 0o000, "the right to read {folder}/mail/_delta_log is missing"),
        ("lake", 0o555, "the right to write file:{folder}/lake/runs/_delta_log is missing"),
    ],
)
def test_a_folder_without_rights_is_named(
    tmp_path: Path, tiny_bi_encoder: str, quick_java: None, folder: str, mode: int, right: str
) -> None:
    write_deltalake(str(tmp_path / "mail"), table({"id": ["1"], "body": ["a text of the lake"]}))
    (tmp_path / "lake").mkdir()
    source = {"path": "mail", "id": "id", "text": "body"}
    pipeline = {"name": "mail", "source": source, "label_set": ["spam"], "model": tiny_bi_encoder, "tables": "lake"}
    (tmp_path / "mail.yaml").write_text(yaml.safe_dump(pipeline))
    (tmp_path / folder).chmod(mode)
    try:
        command = [*WITHOUT_OVERRIDE, sys.executable, "-c", COMMAND, "tag", str(tmp_path / "mail.yaml")]
        job = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        (tmp_path / folder).chmod(0o755)
    assert job.returncode == 2, job.stderr
    [line] = job.stderr.splitlines()
    expected = f"{right.format(folder=tmp_path)}; grant it to the user or role that runs Spark's jobs"
    assert line.endswith(expected)
