"""docs/howto/dbt.md: run by dbt where it is installed; else its models are run by Spark as dbt renders them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest
import yaml
from docs_blocks import DOCS, blocks
from pyspark.sql import SparkSession
from quick_spark import QUICK_SPARK

from gliclass_spark import register_gliclass

pytestmark = pytest.mark.long

PAGE = list(blocks(DOCS / "howto" / "dbt.md"))
FILES = {block.title: block.text for block in PAGE if block.title}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The files of the page."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_the_models_run_in_spark_as_dbt_renders_them(spark: SparkSession, project: Path) -> None:
    assert {"models", "profile", "name"} <= yaml.safe_load(FILES["dbt_project.yml"]).keys()
    assert yaml.safe_load(FILES["profiles.yml"])["support"]["outputs"]["local"]["method"] == "session"
    for program in ("run_dbt.py", "try_scored.py"):
        compile(FILES[program], program, "exec")
    spark.read.csv(str(project / "seeds" / "mails.csv"), header=True).createOrReplaceTempView("mails")
    register_gliclass(spark, "topic_of", ["science", "finance", "sports"], output="best")
    calls: list[dict[str, Any]] = []
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined)  # noqa: S701 - SQL, not HTML

    def config(**settings: Any) -> str:
        calls.append(settings)
        return ""

    given = {"ref": str, "this": "topics", "config": config}
    for incremental in (False, True):
        template = environment.from_string(FILES["models/topics.sql"])
        topics = spark.sql(template.render(**given, is_incremental=lambda new=incremental: new))
        assert [tuple(row)[::2] for row in topics.orderBy("mail_id").collect()] == (
            [] if incremental else [("m1", "science"), ("m2", "sports"), ("m3", None)]
        )
        topics.localCheckpoint().createOrReplaceTempView("topics")
    assert [call["materialized"] for call in calls] == ["incremental"] * 2

    namespace: dict[str, Any] = {}
    exec(FILES["models/scored.py"], namespace)  # noqa: S102 - our own documentation
    # As dbt's code around a Python model calls it.
    scored = namespace["model"](SimpleNamespace(ref=spark.table, config=lambda **settings: None), spark)
    assert {row["mail_id"]: [found["label"] for found in row["topics"] or ()] for row in scored.collect()} == {
        "m1": ["science"],
        "m2": ["sports"],
        "m3": [],
    }


@pytest.mark.skipif(importlib.util.find_spec("dbt") is None, reason="dbt is not installed")
@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("quick_java")
def test_dbt_builds_the_project(project: Path) -> None:
    (project / "spark-defaults.conf").write_text("\n".join(f"{key} {value}" for key, value in QUICK_SPARK.items()))
    settings = {"SPARK_CONF_DIR": str(project), "DBT_SEND_ANONYMOUS_USAGE_STATS": "false"}
    commands: list[str] = []
    shown = ""
    for block in PAGE:
        if block.language == "console":
            commands += (lines := [line for line in block.text.splitlines() if line.startswith("python ")])
            shown = "".join(printed_by(line, project, settings) for line in lines)
        elif block.language == "text":
            assert all(line in shown for line in block.text.splitlines()), shown
    # The second time dbt merges into the tables of the first.
    assert "|     m1|science|" in printed_by(commands[0], project, settings)


def printed_by(command: str, folder: Path, settings: dict[str, str]) -> str:
    """What a command of the page prints."""
    arguments = [sys.executable, *command.split()[1:]]
    done = subprocess.run(
        arguments, cwd=folder, env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout
