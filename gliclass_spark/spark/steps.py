"""The three steps of a run: read, transform, write, count, and write down what was done.

Reading and writing happen here and in `tables`; `tag`, `filter` and `route` only say what follows
from what.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from threading import Event, Thread
from typing import Any

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.config import Pipeline
from gliclass_spark.errors import ErrorShareError, GliclassSparkError, TableError
from gliclass_spark.inference.device import Precision
from gliclass_spark.model.checkpoint import ModelRef, resolve
from gliclass_spark.spark import filter as filtering
from gliclass_spark.spark import route as routing
from gliclass_spark.spark import tables, tag
from gliclass_spark.spark.conditions import check_analysis, lenient_sql
from gliclass_spark.spark.manifest import Manifest, record
from gliclass_spark.spark.meter import Meter
from gliclass_spark.spark.schema import TAGS
from gliclass_spark.spark.session import threads_per_task
from gliclass_spark.spark.tables import Lake
from gliclass_spark.spark.worker import WorkerSettings

Progress = Callable[[int, int], None]
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Run:
    """One run of a pipeline: a night, say. Its steps share the id, and can be run again under it."""

    spark: SparkSession
    pipeline: Pipeline
    run_id: str
    device: str | None = None
    precision: Precision = "auto"
    on_progress: Progress = lambda done, total: None

    @property
    def lake(self) -> Lake:
        return Lake(self.pipeline.tables)

    def documents(self) -> DataFrame:
        return tables.read_documents(self.spark, self.pipeline.source)

    def contents(self) -> DataFrame:
        """What is tagged: doc_id, content_hash, and the text as bytes."""
        return tag.with_content(self.documents(), self.pipeline.source.text)


def check(run: Run) -> ModelRef:
    """Find everything that can be wrong before any work: source, columns, ids, rules, model. Writes nothing."""
    documents = run.documents()
    pipeline = run.pipeline
    pipeline.rules.check(documents.columns, pipeline.label_set.names, f"pipeline {pipeline.name!r}")
    empty_tags = run.spark.createDataFrame([], TAGS)
    tagged = documents.join(empty_tags.drop("run_id"), tables.KEY)
    with lenient_sql(run.spark):
        check_analysis(tagged, pipeline.rules, f"pipeline {pipeline.name!r}")
    tables.check_ids(documents, pipeline.source)
    return resolve(pipeline.model)


def tag_step(run: Run) -> Manifest:
    """Classify what is new, changed, or was asked of another model; merge it into `tags`.

    Raises ErrorShareError, with nothing merged, if more than `max_error_ratio` of it failed.
    """
    started = datetime.now(UTC)
    spark, pipeline = run.spark, run.pipeline
    model = check(run)
    label_set, path = pipeline.label_set, run.lake.path("tags")
    version = tables.source_version(spark, pipeline.source)
    contents = run.contents()
    rows_in = contents.count()
    pending = contents
    if run.lake.exists(spark, "tags"):
        pending = tag.untagged(contents, run.lake.read(spark, "tags"), label_set, model)
    total = pending.count()
    blank = _manifest(run, "tag", started, rows_in, model_digest=model.digest, source_version=version)
    if total == 0:
        return _finish(run, replace(blank, tagged=0, model_loads=0))

    settings = WorkerSettings(model, run.device, run.precision, threads_per_task(spark))
    meter = Meter(spark.sparkContext)
    # Kept until it is merged: its errors are counted before, and the model runs once.
    tagged = tag.tag(pending, label_set, settings, run.run_id, meter).persist()
    try:
        scoring = datetime.now(UTC)
        with _reported(meter, total, run.on_progress):
            errors = _counts(tagged.where(F.col("error").isNotNull()), F.col("error.code"))
        elapsed = (datetime.now(UTC) - scoring).total_seconds()
        usage, loads = meter.total.usage, meter.total.loads
        done = replace(
            blank,
            tagged=total,
            errors=errors,
            texts_per_s=total / elapsed,
            tokens_per_s=usage.tokens / elapsed,
            padding_share=usage.padding_share,
            model_loads=loads,
        )
        failed = sum(errors.values())
        if failed > pipeline.max_error_ratio * total:
            _refuse(run, done, failed)
        tables.upsert(spark, path, tagged, TAGS, ["doc_id", "label_set_hash"])
    finally:
        tagged.unpersist()
    return _finish(run, done)


def filter_step(run: Run) -> Manifest:
    """Decide by the reject rules: every document into `kept`, `rejected` or `quarantined`. Loads no model."""
    started = datetime.now(UTC)
    spark, pipeline, lake = run.spark, run.pipeline, run.lake
    documents = run.documents()
    pipeline.rules.check(documents.columns, pipeline.label_set.names, f"pipeline {pipeline.name!r}")
    tags = lake.read(spark, "tags")
    rows_in = documents.count()
    with lenient_sql(spark):
        tagged = filtering.with_tags(documents, run.contents(), tags, pipeline.label_set)
        check_analysis(tagged, pipeline.rules, f"pipeline {pipeline.name!r}")
        decided = filtering.decide(tagged, pipeline.rules, run.run_id).persist()
        try:
            untagged = rows_in - decided.count()
            if untagged:
                raise TableError(
                    f"{untagged} of {rows_in} documents have no tags for label set {pipeline.label_set.name!r} "
                    "as they are now; run the tag job first"
                )
            tables.converge(spark, lake.path("kept"), filtering.kept(decided))
            tables.converge(spark, lake.path("rejected"), filtering.rejected(decided))
            tables.converge(spark, lake.path("quarantined"), filtering.quarantined(decided))
        finally:
            decided.unpersist()
    return _finish(
        run,
        _manifest(
            run,
            "filter",
            started,
            rows_in,
            kept=lake.read(spark, "kept").count(),
            rejected=_counts(lake.read(spark, "rejected"), F.col("reason")),
            quarantined=lake.read(spark, "quarantined").count(),
            source_version=tables.source_version(spark, pipeline.source),
        ),
    )


def route_step(run: Run) -> Manifest:
    """Send every kept document to the table of its route. Loads no model."""
    started = datetime.now(UTC)
    spark, pipeline, lake = run.spark, run.pipeline, run.lake
    kept = lake.read(spark, "kept")
    with lenient_sql(spark):
        check_analysis(kept, pipeline.rules, f"pipeline {pipeline.name!r}")
        routed = routing.route(kept, pipeline.rules).withColumn("run_id", F.lit(run.run_id)).persist()
        try:
            for name in pipeline.rules.destinations:
                tables.converge(spark, lake.path(name), routed.where(F.col("route") == name))
        finally:
            routed.unpersist()
    counts = {name: lake.read(spark, name).count() for name in pipeline.rules.destinations}
    return _finish(run, _manifest(run, "route", started, kept.count(), routed=counts))


STEPS: dict[str, Callable[[Run], Manifest]] = {"tag": tag_step, "filter": filter_step, "route": route_step}


def _manifest(run: Run, job: str, started: datetime, rows_in: int, **counts: Any) -> Manifest:
    pipeline = run.pipeline
    return Manifest(
        run_id=run.run_id,
        pipeline=pipeline.name,
        job=job,
        status="running",
        started_at=started,
        finished_at=started,
        rows_in=rows_in,
        source=str(pipeline.source.path or pipeline.source.table),
        model=pipeline.model,
        label_set=pipeline.label_set.name,
        label_set_hash=pipeline.label_set.hash,
        rules_hash=pipeline.rules.hash,
        **{"model_digest": None, **counts},
    )


def _finish(run: Run, manifest: Manifest) -> Manifest:
    """Check the counts, and write the row that says so. Counts that don't add up are a failed run."""
    finished = replace(manifest, finished_at=datetime.now(UTC), status="succeeded")
    try:
        finished.check()
    except GliclassSparkError as error:
        record(run.spark, run.lake.path("runs"), replace(finished, status="failed", message=str(error)))
        raise
    record(run.spark, run.lake.path("runs"), finished)
    return finished


def _refuse(run: Run, manifest: Manifest, failed: int) -> None:
    pipeline = run.pipeline
    listed = ", ".join(f"{code}: {count}" for code, count in sorted(manifest.errors.items()))
    error = ErrorShareError(
        f"{failed} of {manifest.tagged} texts could not be scored ({listed}): a share of "
        f"{failed / (manifest.tagged or 1):.3f}, at most {pipeline.max_error_ratio} is allowed; nothing was tagged. "
        "Mend the source, or raise max_error_ratio"
    )
    finished = replace(manifest, finished_at=datetime.now(UTC), status="failed", message=str(error))
    record(run.spark, run.lake.path("runs"), finished)
    raise error


def _counts(rows: DataFrame, by: Any) -> dict[str, int]:
    return {row["name"]: row["count"] for row in rows.groupBy(by.alias("name")).count().collect()}


@contextmanager
def _reported(meter: Meter, total: int, on_progress: Progress) -> Iterator[None]:
    """Tell `on_progress` how many texts are done, while the block runs and once at its end."""
    finished = Event()

    def watch() -> None:
        while not finished.wait(_POLL_SECONDS):
            on_progress(meter.total.usage.texts, total)

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()
        on_progress(meter.total.usage.texts, total)
