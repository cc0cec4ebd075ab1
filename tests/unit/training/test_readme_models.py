"""The README's commands about models run as they are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from gliclass_spark.cli.app import main
from gliclass_spark.labels import LabelSet

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[3]
SECTION = (ROOT / "README.md").read_text(encoding="utf-8").split("## A model for your labels")[1].split("\n## ")[0]
KINDS = ("complaint", "invoice")


def test_examples_are_added_and_a_model_is_evaluated_trained_and_calibrated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("conf").symlink_to(ROOT / "conf")
    texts = [f"{kind} number {number}" for number in range(24) for kind in KINDS]
    rows = {"text": texts, "labels": list(KINDS) * 24, "split": ["train"] * 36 + ["test"] * 12}
    pq.write_table(pa.table(rows), "mail.parquet")
    Path("mail.yaml").write_text(yaml.safe_dump({"labels": list(KINDS)}))
    commands = re.findall(r"^\.venv/bin/gliclass-spark (.*)$", SECTION, flags=re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["examples", "evaluate", "train", "calibrate"]
    for command in commands:
        assert main(shlex.split(command, comments=True)) == 0
    assert len(LabelSet.from_yaml("examples.yaml").examples) == 16
    assert LabelSet.from_yaml("calibrated.yaml").names == KINDS
