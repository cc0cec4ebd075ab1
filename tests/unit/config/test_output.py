"""The section `output`: properties that the jobs can work with, and one layout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pipeline_files import merged, refusal, write

from gliclass_spark.config.pipeline import Pipeline


def test_values_are_text_as_delta_takes_them(pipelines: Path) -> None:
    properties = {"delta.checkpointInterval": 20, "delta.autoOptimize.autoCompact": True, "team.owner": "lake"}
    output = Pipeline.from_yaml(write(pipelines, merged(output={"properties": properties}))).output
    assert output.properties == {
        "delta.checkpointInterval": "20",
        "delta.autoOptimize.autoCompact": "true",
        "team.owner": "lake",
    }


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("delta.enableChangeDataFeed", "the jobs read each other's changes from it"),
        ("delta.appendonly", "the jobs update and delete rows"),
        ("delta.setTransactionRetentionDuration", "Delta would forget which runs have written"),
        ("delta.constraints.positive", "a row that does not meet it would fail the job"),
        ("delta.columnMapping.mode", "the jobs set it where the names of columns need it"),
        ("delta.feature.icebergCompatV2", "the jobs set what they need"),
        ("delta.minReaderVersion", "the jobs set what they need"),
        ("delta.checkpointPolicy", "readers without Spark, Airflow's checks among them, can't read such a table"),
        ("delta.enableTypeWidening", "readers without Spark, Airflow's checks among them, can't read such a table"),
        ("delta.universalFormat.enabledFormats", "readers without Spark, Airflow's checks among them, can't read such"),
    ],
)
def test_a_property_against_what_the_jobs_rely_on_is_refused(pipelines: Path, name: str, reason: str) -> None:
    message = refusal(pipelines, merged(output={"properties": {name: "x"}}))
    assert message.startswith(f"output.properties: {name!r} is not for a pipeline's tables: {reason}")


@pytest.mark.parametrize(
    ("output", "message"),
    [
        (
            {"properties": {"location": "x"}},
            "output.properties: 'location' is no property; write delta.NAME",
        ),
        ({"properties": {"a.b'": "x"}}, 'output.properties: "a.b\'" is no property; write delta.NAME'),
        (
            {"partition_by": ["lang"], "cluster_by": ["lang"]},
            "output: has both 'partition_by' and 'cluster_by'; Delta takes one of them: remove the other",
        ),
        ({"cluster_by": list("abcde")}, "output: cluster_by has 5 columns; Delta takes 4"),
        ({"partition_by": ["lang", "Lang"]}, "output: partition_by names 'lang' twice; remove one"),
    ],
)
def test_what_delta_can_t_do_is_refused(pipelines: Path, output: dict[str, Any], message: str) -> None:
    assert refusal(pipelines, merged(output=output)).startswith(message)
