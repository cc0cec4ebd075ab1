"""README: its code runs as printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyspark.sql import SparkSession

from gliclass_spark.cli.app import main

README = (Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_python_blocks_run_in_order(spark: SparkSession, capsys: Any) -> None:
    namespace: dict[str, Any] = {}
    for block in blocks("python"):
        exec(block, namespace)  # noqa: S102 - our own README
    shown = capsys.readouterr().out
    assert shown.count("Your parcel never arrived!") == 2
    assert shown.count("|labels") == 2


@pytest.mark.long
def test_the_pipeline_runs_on_another_table(spark: SparkSession, tmp_path: Path, capsys: Any) -> None:
    pipeline, schedule = (yaml.safe_load(block) for block in blocks("yaml"))
    pipeline |= schedule  # the part for Airflow
    pipeline["source"]["path"], pipeline["tables"] = "mail", "lake"
    (tmp_path / "support_mail.yaml").write_text(yaml.safe_dump(pipeline))
    rows = [("1", "Your parcel never arrived, and nobody answers me. I want my money back!"), ("2", "Hi")]
    spark.createDataFrame(rows, ["message_id", "body"]).write.parquet(str(tmp_path / "mail"))
    assert main(["run", str(tmp_path / "support_mail.yaml")]) == 0
    shown = capsys.readouterr().out
    assert "rejected: too_short" in shown
    assert "spark.read.format" in shown
