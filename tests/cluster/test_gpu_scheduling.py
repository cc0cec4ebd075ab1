"""GPU scheduling: only the tagging stage requests GPUs, and its workers use the ones assigned to them."""

from __future__ import annotations

import json

import pytest
from quick_spark import QUICK_SPARK

from devtools.standalone_cluster import StandaloneCluster

pytestmark = pytest.mark.long

PROGRAM = """
import json, sys
import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import SparkSession
from gliclass_spark.spark.worker.resource_profile import tagging_profile

url, conf = sys.argv[1], json.loads(sys.argv[2])
builder = SparkSession.builder.master(url)
for key, value in {
    "spark.driver.host": "127.0.0.1",
    "spark.executor.cores": "2",
    "spark.executor.memory": "512m",
    "spark.executor.resource.gpu.amount": "1",
    "spark.task.maxFailures": "1",
    **conf,
}.items():
    builder = builder.config(key, value)
spark = builder.getOrCreate()

def assigned(batches):
    for _ in batches:
        pass
    resources = TaskContext.get().resources()
    yield pa.RecordBatch.from_pydict({"gpus": [resources["gpu"].addresses if "gpu" in resources else []]})

def gpus(profile):
    rows = spark.range(0, 8, 1, 8).mapInArrow(assigned, "gpus array<string>", profile=profile).collect()
    assert len(rows) == 8
    return sorted({tuple(row["gpus"]) for row in rows})

profile = tagging_profile(spark)
results = {"profile": profile is not None, "other stages": gpus(None), "tagging stage": gpus(profile)}
"""

TAGGING = """
from dataclasses import replace
from gliclass_spark import LabelSet
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.spark.transforms.tagging import tag
from gliclass_spark.spark.worker.worker_settings import WorkerSettings

rows = [("1", "h", b"a lake"), ("2", "h", None)]
contents = spark.createDataFrame(rows, "doc_id string, content_hash string, text binary")
on_cpu = WorkerSettings(resolve_model(sys.argv[3]), "cpu", "float32", 1)
rows = tag(contents, 2, LabelSet.of("spam", "ham"), on_cpu, "r").orderBy("doc_id").collect()
results["tagged"] = [[row["doc_id"], sorted(row["scores"]), row["error"] and row["error"]["code"]] for row in rows]
try:
    tag(contents, 2, LabelSet.of("spam", "ham"), replace(on_cpu, device=None), "r").collect()
    results["error"] = None
except Exception as error:
    results["error"] = str(error)
"""

REPORT = """
print(json.dumps(results))
spark.stop()
"""


def run(cluster: StandaloneCluster, program: str, conf: dict[str, str], *arguments: str) -> dict:
    process = cluster.run(program + REPORT, json.dumps({**QUICK_SPARK, **conf}), *arguments)
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout.splitlines()[-1])


def test_only_the_tagging_stage_has_gpus_and_each_task_uses_its_own(
    cluster: StandaloneCluster, tiny_bi_encoder: str
) -> None:
    results = run(cluster, PROGRAM + TAGGING, {}, tiny_bi_encoder)
    assert results["profile"]
    assert results["other stages"] == [[]]
    assert results["tagging stage"] == [["0"]]
    assert results["tagged"] == [["1", ["ham", "spam"], None], ["2", [], "null_text"]]
    # This machine has no GPU, but the worker tried the one that Spark assigned to its task.
    assert "device 'cuda:0' can't be used here" in results["error"]


def test_the_stage_requests_no_gpus_if_every_task_does(cluster: StandaloneCluster) -> None:
    results = run(cluster, PROGRAM, {"spark.task.resource.gpu.amount": "1"})
    assert results == {"profile": False, "other stages": [["0"]], "tagging stage": [["0"]]}
