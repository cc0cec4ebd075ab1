"""A plan: a first estimate from a few documents, a better one from a sample, each in few queries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from delta_pipeline import pipeline_of
from pyspark.sql import SparkSession

from gliclass_spark.spark.jobs import PipelineRun
from gliclass_spark.spark.jobs.plan import FIRST_SAMPLE, Plan, plan


def next_query(spark: SparkSession) -> int:
    """The number of the next query; asking takes one."""
    java: Any = spark._jvm
    execution = getattr(java.org.apache.spark.sql.execution, "SQLExecution$")
    return int(getattr(execution, "MODULE$").nextExecutionId())


def test_a_plan_of_new_documents_takes_four_queries(spark: SparkSession, tiny_bi_encoder: str, tmp_path: Path) -> None:
    rows = [{"id": f"{number}", "body": f"document {number} of a lake of data", "n": number} for number in range(24)]
    (tmp_path / "mail").mkdir()
    (tmp_path / "mail" / "mail.json").write_text("\n".join(map(json.dumps, rows)))
    source = {"path": "mail", "format": "json", "id": "id", "text": "body"}
    run = PipelineRun(spark, pipeline_of(tmp_path, tiny_bi_encoder, source=source), "run-1", precision="float32")
    plans: list[Plan] = []
    before = next_query(spark)
    plans.append(plan(run, sample_rows=20, on_first_estimate=plans.append))
    # The documents' count, the scores of the first ones; the pending ones' count, the scores of the sample.
    assert next_query(spark) - before - 1 == 4
    sizes = [(made.documents, made.to_tag, made.sampled) for made in plans]
    assert sizes == [(24, 24, FIRST_SAMPLE), (24, 24, 20)]
    for made in plans:
        outcomes = {outcome.outcome: outcome for outcome in made.outcomes}
        assert list(outcomes) == ["kept", "rejected: short", "to odd", "to unrouted"]
        assert (outcomes["kept"].scored, outcomes["kept"].estimated, outcomes["rejected: short"].estimated) == (
            0,
            24,
            0,
        )
        routed = outcomes["to odd"].estimated + outcomes["to unrouted"].estimated
        assert routed in (23, 24, 25)  # each is rounded
        texts = {row["id"]: row["body"] for row in rows}
        assert all(len(outcomes[name].samples) == 3 for name in ("kept", "to odd", "to unrouted"))
        assert all(texts[sample.doc_id] == sample.text for outcome in made.outcomes for sample in outcome.samples)
