"""docs/howto/dbt.md: dbt, in an environment of its own, builds the page's project."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable
from docs_blocks import DOCS, blocks
from quick_spark import submit_args
from uv_environments import CommandError, install_over_this_environment, run

pytestmark = pytest.mark.long

PAGE = list(blocks(DOCS / "howto" / "dbt.md"))
REQUIREMENTS = Path(__file__).with_name("dbt-requirements.txt")
WAREHOUSE = "spark-warehouse/support.db"
NEW_MAILS = 'm4,"The bank raised its interest rates, and shares fell."\n'
# The page's commands, one process for all of them: most of the time of each would be the start of Spark.
RUN_COMMANDS = """
import json, runpy, sys
from pathlib import Path

commands, new_mails = json.loads(sys.argv[1]), sys.argv[2]
for position, command in enumerate([commands[0], *commands]):
    print(f"$ {command}", flush=True)
    if position == 1:
        with Path("seeds/mails.csv").open("a") as seed:
            seed.write(new_mails)
    sys.argv = command.split()[1:]
    try:
        runpy.run_path(sys.argv[0], run_name="__main__")
    except SystemExit as exit:
        if exit.code:
            raise
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The files of the page."""
    folder = tmp_path / "project"
    for block in PAGE:
        if block.title:
            path = folder / block.title
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
    return folder


@pytest.mark.usefixtures("quick_java")
def test_dbt_builds_the_project_and_merges_new_mails_into_it(project: Path, tmp_path: Path) -> None:
    try:
        python = install_over_this_environment(tmp_path / "environment", REQUIREMENTS)
    except CommandError as error:
        if "Failed to fetch" not in str(error):
            raise
        pytest.skip("the package index can't be reached, so dbt can't be installed")
    consoles = [block.text for block in PAGE if block.language == "console"]
    commands = [line for text in consoles for line in text.splitlines() if line.startswith("python ")]
    outputs = [block.text for block in PAGE if block.language == "text"]

    printed = run(
        [python, "-c", RUN_COMMANDS, json.dumps(commands), NEW_MAILS],
        project,
        PYSPARK_SUBMIT_ARGS=submit_args(),
        DBT_SEND_ANONYMOUS_USAGE_STATS="false",
    )

    build, build_again, compile_model, try_model = printed.split("$ python ")[1:]
    assert all(line in build for line in outputs[0].splitlines()), build
    assert all(line in try_model for line in outputs[1].splitlines()), try_model
    assert "Compiled node 'scored'" in compile_model
    assert build.count("PASS=4") == build_again.count("PASS=4") == 1, build_again
    assert table(project, "topics", "mail_id", "topic") == [
        ("m1", "science"),
        ("m2", "sports"),
        ("m3", None),
        ("m4", "finance"),
    ]
    counts = [("finance", 1), ("science", 1), ("sports", 1), (None, 1)]
    assert table(project, "mails_by_topic", "topic", "mails") == counts
    [merge] = DeltaTable(project / WAREHOUSE / "topics").history(1)
    rows = {name: merge["operationMetrics"][f"numTargetRows{name}"] for name in ("Inserted", "Updated", "Deleted")}
    assert (merge["operation"], rows) == ("MERGE", {"Inserted": "1", "Updated": "0", "Deleted": "0"})


def table(project: Path, name: str, *columns: str) -> list[tuple[Any, ...]]:
    """Return the columns of a table that dbt wrote, in order, nulls last."""
    rows = DeltaTable(project / WAREHOUSE / name).to_pyarrow_table(columns=list(columns)).to_pylist()
    return sorted((tuple(row.values()) for row in rows), key=lambda row: [(each is None, each) for each in row])
