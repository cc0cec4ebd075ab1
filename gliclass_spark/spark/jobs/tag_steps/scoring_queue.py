"""Scoring of pending documents, in slices.

A job that needs more than one slice writes each into the table `staged`: if it is killed, its next attempt scores the
other slices only.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from threading import Event, Thread

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.spark.delta import table_creation
from gliclass_spark.spark.delta.schema import KEY, STAGED_SPEC
from gliclass_spark.spark.jobs.job_run import Job
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun
from gliclass_spark.spark.jobs.tag_steps.pending import count_pending
from gliclass_spark.spark.jobs.tag_steps.tag_input import TagInput
from gliclass_spark.spark.session import threads_per_task
from gliclass_spark.spark.source_files import UNREADABLE_FILE
from gliclass_spark.spark.transforms import tagging
from gliclass_spark.spark.worker.resource_profile import gpu_sharing
from gliclass_spark.spark.worker.usage_meter import Meter
from gliclass_spark.spark.worker.worker_settings import WorkerSettings

# The error's code; "" for a row without an error.
ERROR_CODE = "coalesce(error.code, '')"
# The most rows that a killed job has to score again.
_SLICE_ROWS = 100_000
_PROGRESS_INTERVAL_S = 0.2


@dataclass(frozen=True)
class Scored:
    """The rows of `tags` for all pending documents, cached for the job.

    outcomes: code (of the error, "" without one), count and file (with such an error) of the rows, a row per code.
    is_staged: whether the table `staged` holds rows.
    """

    rows: DataFrame
    outcomes: list[Row]
    is_staged: bool


def score_pending(job: Job, tag_input: TagInput, model: ModelRef) -> Scored:
    """Score the pending documents, but for those that an earlier attempt staged; add the speed to the job's facts."""
    run = job.run
    with job.timed("score"):
        queue, counts = tag_input.pending, tag_input.counts
        is_staged = run.lake.exists(run.spark, "staged") and not run.lake.read(run.spark, "staged").isEmpty()
        if is_staged:
            queue = job.cache(tagging.rows_without_scores(queue, _staged_rows(run, tag_input.pending, model)))
            counts = count_pending(queue)
        count, text_count = counts.documents, counts.texts
        slice_count = ceil(count / _SLICE_ROWS)
        if text_count < count:
            job.notes.append(f"{count} documents with {text_count} distinct texts: equal texts were scored once")
        meter = Meter(run.spark.sparkContext)
        settings = worker_settings(run, model)

        def score(documents: DataFrame) -> DataFrame:
            # The smallest id, so that a query that is computed again takes the same documents.
            texts = documents.groupBy("text_id").agg(F.min(KEY).alias(KEY)) if text_count < count else documents
            contents = tag_input.contents.join(texts.select(KEY), KEY, "left_semi")
            slice_texts = ceil(text_count / slice_count)
            rows = tagging.tag(contents, slice_texts, run.pipeline.label_set, settings, run.run_id, meter)
            return tagging.with_equal_texts(rows, texts, documents) if text_count < count else rows

        with _measured(job, meter, text_count):
            if slice_count == 1 and not is_staged:
                rows = job.cache(score(queue))
                return Scored(rows, _count_outcomes(rows), is_staged=False)
            table_creation.ensure(run.spark, run.lake.table("staged"), run.spec(STAGED_SPEC))
            for index in range(slice_count):
                if index:  # before more texts are scored in vain
                    run.runs.check_current(job.manifest)
                # Equal texts are in one slice.
                slice_documents = queue.where(F.pmod(F.xxhash64("text_id"), F.lit(slice_count)) == index)
                job.append("staged", score(slice_documents))
        rows = job.cache(_staged_rows(run, tag_input.pending, model))
        return Scored(rows, _count_outcomes(rows), is_staged=True)


def keep_scores(job: Job, scored: DataFrame) -> None:
    """Leave the rows without errors in `staged`, and no others: the next run of the job need not score them again."""
    table_creation.ensure(job.run.spark, job.run.lake.table("staged"), job.run.spec(STAGED_SPEC))
    job.overwrite("staged", scored.where("error IS NULL"))


def _count_outcomes(rows: DataFrame) -> list[Row]:
    """Return the outcomes of scored rows (see `Scored`), in the order of their codes."""
    file = F.regexp_extract("error.message", UNREADABLE_FILE, 1)
    grouped = rows.groupBy(F.expr(ERROR_CODE).alias("code")).agg(F.count("*").alias("count"), F.min(file).alias("file"))
    return sorted(grouped.collect(), key=lambda row: row["code"])


def _staged_rows(run: PipelineRun, pending: DataFrame, model: ModelRef) -> DataFrame:
    """Return the staged rows of pending documents by this model: one per document, of its current text."""
    rows = run.lake.read(run.spark, "staged")
    of_model = (F.col("label_set_hash") == run.pipeline.label_set.hash) & (F.col("model_digest") == model.digest)
    same_text = (F.col(f"s.{KEY}") == F.col(f"p.{KEY}")) & F.col("s.content_hash").eqNullSafe(F.col("p.content_hash"))
    return rows.where(of_model).alias("s").join(pending.alias("p"), same_text, "left_semi").dropDuplicates([KEY])


def worker_settings(run: PipelineRun, model: ModelRef) -> WorkerSettings:
    """Return how the workers load the model."""
    return WorkerSettings(model, run.device, run.precision, threads_per_task(run.spark), gpu_sharing(run.spark))


@contextmanager
def _measured(job: Job, meter: Meter, total: int) -> Iterator[None]:
    """Report the progress of the block, which scores `total` texts, and add its speed to the job's facts."""
    finished = Event()

    def report() -> None:
        while not finished.wait(_PROGRESS_INTERVAL_S):
            job.run.on_progress(meter.total.usage.texts, total)

    reporter = Thread(target=report, daemon=True)
    started = time.perf_counter()
    reporter.start()
    try:
        yield
    finally:
        finished.set()
        reporter.join()
        job.run.on_progress(meter.total.usage.texts, total)
    elapsed = time.perf_counter() - started
    usage = meter.total.usage
    job.facts |= {
        "model_loads": meter.total.loads,
        "tokens": usage.tokens,
        "padding_share": usage.padding_share,
        "texts_per_s": total / elapsed if total else None,
        "tokens_per_s": usage.tokens / elapsed if total else None,
    }
