"""Scoring of pending documents, slice by slice, into the table `staged`.

A job that is killed keeps the scores of its finished slices: its next attempt scores only the others.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from threading import Event, Thread

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.spark.delta import table_creation
from gliclass_spark.spark.delta.schema import KEY, STAGED_SPEC
from gliclass_spark.spark.jobs.job_run import Job
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun
from gliclass_spark.spark.jobs.tag_steps.tag_input import TagInput
from gliclass_spark.spark.session import threads_per_task
from gliclass_spark.spark.transforms import tagging
from gliclass_spark.spark.worker.resource_profile import gpu_sharing
from gliclass_spark.spark.worker.usage_meter import Meter
from gliclass_spark.spark.worker.worker_settings import WorkerSettings

# The most rows that a killed job has to score again.
_SLICE_ROWS = 100_000
_PROGRESS_INTERVAL_S = 0.2


def score_pending(job: Job, tag_input: TagInput, model: ModelRef) -> None:
    """Score the pending documents that are not staged yet, and add the speed to the job's facts."""
    run = job.run
    spark, label_set = run.spark, run.pipeline.label_set
    with job.timed("score"):
        table_creation.ensure(spark, run.lake.table("staged"), STAGED_SPEC)
        staged = staged_rows(run, tag_input.pending, model)
        queue = job.cache(tagging.rows_without_scores(tag_input.pending, staged))
        total = queue.count()
        slice_count = ceil(total / _SLICE_ROWS)
        meter = Meter(spark.sparkContext)
        settings = worker_settings(run, model)
        started = time.perf_counter()
        with _progress_reports(meter, total, run):
            for index in range(slice_count):
                if index:  # before more texts are scored in vain
                    run.runs.check_current(job.manifest)
                ids = queue.where(F.pmod(F.xxhash64(KEY), F.lit(slice_count)) == index).select(KEY)
                contents = tag_input.contents.join(ids, KEY, "left_semi")
                scored = tagging.tag(contents, label_set, settings, run.run_id, meter)
                job.append("staged", scored)
        elapsed = time.perf_counter() - started
        usage, loads = meter.total.usage, meter.total.loads
        job.facts |= {"model_loads": loads, "tokens": usage.tokens, "padding_share": usage.padding_share}
        if total:
            job.facts |= {"texts_per_s": total / elapsed, "tokens_per_s": usage.tokens / elapsed}


def staged_rows(run: PipelineRun, pending: DataFrame, model: ModelRef) -> DataFrame:
    """Return the staged rows of pending documents by this model: one per document, of its current text."""
    rows = run.lake.read(run.spark, "staged")
    of_model = (F.col("label_set_hash") == run.pipeline.label_set.hash) & (F.col("model_digest") == model.digest)
    same_text = (F.col(f"s.{KEY}") == F.col(f"p.{KEY}")) & F.col("s.content_hash").eqNullSafe(F.col("p.content_hash"))
    return rows.where(of_model).alias("s").join(pending.alias("p"), same_text, "left_semi").dropDuplicates([KEY])


def worker_settings(run: PipelineRun, model: ModelRef) -> WorkerSettings:
    """Return how the workers load the model."""
    return WorkerSettings(model, run.device, run.precision, threads_per_task(run.spark), gpu_sharing(run.spark))


@contextmanager
def _progress_reports(meter: Meter, total: int, run: PipelineRun) -> Iterator[None]:
    """Call `run.on_progress` while the block runs, and once at its end."""
    finished = Event()

    def report() -> None:
        while not finished.wait(_PROGRESS_INTERVAL_S):
            run.on_progress(meter.total.usage.texts, total)

    reporter = Thread(target=report, daemon=True)
    reporter.start()
    try:
        yield
    finally:
        finished.set()
        reporter.join()
        run.on_progress(meter.total.usage.texts, total)
