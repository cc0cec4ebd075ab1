"""The tag job: what is new or changed goes through the model, and its scores into `tags`. Loads the model.

Scores are staged before they count: slice by slice they go into the table `staged`, so that a job
that was killed does not score them again; when all are there, and not too many failed, one commit
merges them into `tags`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial, reduce
from math import ceil
from threading import Event, Thread
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.checkpoints.uri import resolve_model
from gliclass_spark.errors import (
    CheckpointError,
    ConfigError,
    ErrorShareError,
    ManifestError,
    ModelNotFoundError,
    TableError,
)
from gliclass_spark.runs.manifest import HISTOGRAM_BINS, Manifest, VersionRange
from gliclass_spark.spark.delta import change_feed, tables
from gliclass_spark.spark.delta.change_feed import Changes, TableRef
from gliclass_spark.spark.delta.local_rows import local_rows
from gliclass_spark.spark.delta.runs_table import last_success, incremental_base
from gliclass_spark.spark.delta.schema import KEY, EXPLORATION_FIELDS, TAGS
from gliclass_spark.spark.delta.tables import STAGED_SPEC, TAGS_SPEC
from gliclass_spark.spark.jobs.pipeline_run import Job, PipelineRun, counts, finish, job, outputs, settings_of
from gliclass_spark.spark.session import threads_per_task
from gliclass_spark.spark.source import with_content
from gliclass_spark.spark.transforms import exploring, filtering, tagging
from gliclass_spark.spark.transforms.rule_expressions import check_analysis, lenient_sql
from gliclass_spark.spark.worker.resource_profile import gpu_sharing
from gliclass_spark.spark.worker.usage_meter import Meter
from gliclass_spark.spark.worker.worker_settings import WorkerSettings

logger = logging.getLogger(__name__)
_POLL_SECONDS = 0.2
# What a killed job has to score again, at most.
_SLICE_ROWS = 100_000
_CODE = "coalesce(error.code, '')"
_TAG_KEY = (KEY, "label_set_hash")


def check(run: PipelineRun, known: list[Manifest]) -> ModelRef:
    """Find what can be wrong before any work: source, columns, rules, table, model. Writes nothing.

    `known` is what `Runs.recent` gave.
    """
    documents, pipeline = run.documents.read(), run.pipeline
    pipeline.rules.check(documents.columns, pipeline.label_set.names, run.title)
    with lenient_sql(run.spark):
        asked = filtering.tags_of_label_set(local_rows(run.spark, [], TAGS), pipeline.label_set)
        tagged = filtering.with_tags(documents, with_content(documents, pipeline.source.text), asked)
        check_analysis(tagged, pipeline.rules, run.title)
    lacks = [name for name in tables.missing_columns(run.spark, run.lake.path("tags"), TAGS) if name not in EXPLORATION_FIELDS.names]
    if lacks:
        raise TableError(
            f"{run.lake.path('tags')}: expected a column {lacks[0]!r}, found none; someone altered the table: bring "
            "back an earlier version (RESTORE TABLE ... TO VERSION AS OF ...), or move it away to tag everything again"
        )
    return _model(run, known)


def tag_step(run: PipelineRun) -> Manifest:
    """Classify what is new, changed, or asked anew (see `Run.retag`); bury the tags of what is gone.

    Raises ErrorShareError, with nothing committed to `tags`, if more than `max_error_ratio` of it failed.
    """
    known = run.runs.recent()
    model = check(run, known)
    spark, lake = run.spark, run.lake
    source = run.documents.delta
    read = to_read(run, source, known)
    documents = run.documents.read(read.until)
    settings = tag_settings(run, model.digest)
    done = last_success(known, "tag", run_id=run.run_id, settings_hash=settings)
    if done is not None:
        return done
    looks_at_all = source is None or run.full or incremental_base(known, "tag", settings) is None
    if looks_at_all:
        run.documents.check_ids(documents)  # before anything is written
    with job(run, "tag", settings, known, model_digest=model.digest) as work:
        if run.retag == "all":
            work.base = None
        with work.timed("read"):
            changed = change_feed.full_scan(documents)
            if source is not None:
                changed = work.changes("source", source, read, run.documents.select_columns)
            if not changed.full_scan:
                _check_changed_ids(run, documents, changed)
            elif not looks_at_all:
                run.documents.check_ids(documents)
            contents = with_content(changed.rows, run.pipeline.source.text)
            wanted = work.hold(pending_documents(run, contents, model))
            gone = _gone(run, changed)
            rows_in, total, leaving = changed.rows.count(), wanted.count(), gone.count()
        work.known |= {"rows_in": rows_in, "tagged": total, "full_scan": changed.full_scan, "model_loads": 0}
        existed = lake.exists(spark, "tags")
        if total:
            with work.timed("score"):
                _score(work, contents, wanted, model)
            with work.timed("check"):
                ready = work.hold(_decided(run, _staged(run, model, wanted)))
                _check_errors(work, ready, total)
        with work.timed("write"):
            tables.ensure(spark, lake.path("tags"), TAGS_SPEC)
            again = ready.join(live_tags(run), KEY, "left_semi").count() if total and existed else 0
            written = [ready.withColumn("run_id", F.lit(run.run_id))] if total else []
            if existed and work.base is None:
                written += _decided_anew(work, wanted)
            if written:
                work.commit("tags", partial(tables.upsert, reduce(DataFrame.unionByName, written), _TAG_KEY))
            if leaving:
                work.commit("tags", partial(tables.write_tombstones, gone, run.run_id))
        with work.timed("check"):
            found, held = _read_back(run)
            expected = documents.count() if source is not None else held
            if held != expected:
                raise ManifestError(
                    f"run {run.run_id!r}, tag: expected tags of {expected} documents, found {held}; another writer "
                    "changed `tags`: run tag again with --full"
                )
        if total:
            work.commit("staged", partial(tables.delete_rows, spark))
        facts: dict[str, Any] = {**work.known, **found, "retagged": again, "tombstoned": leaving, "documents": held}
        inputs = {"source": change_feed.range_since(work.since("source"), read)}
        return finish(work, work.facts(inputs=inputs, outputs=outputs(run, ["tags"]), **facts))


def to_read(run: PipelineRun, source: TableRef | None, known: list[Manifest]) -> VersionRange:
    """The version of the source that `run.until` asks for, but none before one that was read: tags don't go back."""
    if source is None:
        if run.until is not None:
            raise ConfigError(
                f"{run.documents.name} keeps no versions: it can't be read as it was at {run.until}; use a Delta table"
            )
        return VersionRange()
    asked = source.latest(run.spark, run.until)
    last = last_success(known, "tag")
    taken = last.inputs["source"] if last is not None else VersionRange()
    if taken.until is None or taken.table_id != asked.table_id:
        return asked
    return replace(asked, until=max(taken.until, asked.until or 0))


def tag_settings(run: PipelineRun, model_digest: str | None) -> str:
    """All but the data that the tags depend on. With `--retag none`, the model is not among it."""
    pipeline = run.pipeline
    asked_again = model_digest if run.retag != "none" else None
    return settings_of(
        id=pipeline.source.id,
        text=pipeline.source.text,
        label_set=pipeline.label_set.hash,
        model=asked_again,
        exploration=pipeline.exploration,
    )


def _model(run: PipelineRun, known: list[Manifest]) -> ModelRef:
    """What the pipeline's address stands for; if this run has begun before, what it stood for then.

    An alias, a branch or a folder may change between two attempts: one run has one model.
    """
    address = run.pipeline.model
    own = [each for each in known if (each.job, each.run_id, each.model) == ("tag", run.run_id, address)]
    begun_with = own[-1].model_digest if own else None  # the latest come first
    try:
        return resolve_model(address, begun_with, run.registry)
    except (ModelNotFoundError, CheckpointError) as gone:
        if begun_with is None:
            raise
        found = resolve_model(address, registry=run.registry)
        logger.warning("run %r goes on with another model than it began with: %s", run.run_id, gone)
        return found


def _check_changed_ids(run: PipelineRun, documents: DataFrame, changed: Changes) -> None:
    """`check_ids` of the documents that changed, among all documents: reads no column but the id."""
    ids = changed.rows.select(KEY)
    standing = documents.select(KEY).join(F.broadcast(ids), KEY, "left_semi")
    run.documents.check_ids(standing.union(ids.where(F.col(KEY).isNull())))


def live_tags(run: PipelineRun) -> DataFrame:
    """The rows of `tags` for this label set, without tombstones."""
    tags = run.lake.read(run.spark, "tags")
    return tags.where((F.col("label_set_hash") == run.pipeline.label_set.hash) & F.col("deleted_at").isNull())


def pending_documents(run: PipelineRun, contents: DataFrame, model: ModelRef) -> DataFrame:
    """doc_id and content_hash of what the model has to be asked about."""
    wanted = contents.select(KEY, "content_hash")
    if not run.lake.exists(run.spark, "tags"):
        return wanted
    answered: dict[str, Column] = {
        "changed": F.col("model_digest") == model.digest,
        "none": F.lit(True),
        "all": F.col("run_id") == run.run_id,  # by an earlier attempt of this run
    }
    return tagging.rows_without_scores(wanted, live_tags(run).where(answered[run.retag]))


def _gone(run: PipelineRun, changed: Changes) -> DataFrame:
    """The documents whose tags have to be buried."""
    if not changed.full_scan:
        return changed.gone
    if not run.lake.exists(run.spark, "tags"):
        return changed.gone.limit(0)
    known = run.lake.read(run.spark, "tags").where(F.col("deleted_at").isNull()).select(KEY).distinct()
    return known.join(changed.rows.select(KEY), KEY, "left_anti")


def _staged(run: PipelineRun, model: ModelRef, wanted: DataFrame) -> DataFrame:
    """What is staged of what is wanted: one row for each text, as it is now, by this model."""
    rows = run.lake.read(run.spark, "staged")
    asked = (F.col("label_set_hash") == run.pipeline.label_set.hash) & (F.col("model_digest") == model.digest)
    same = (F.col(f"s.{KEY}") == F.col(f"w.{KEY}")) & F.col("s.content_hash").eqNullSafe(F.col("w.content_hash"))
    return rows.where(asked).alias("s").join(wanted.alias("w"), same, "left_semi").dropDuplicates([KEY])


def _decided(run: PipelineRun, rows: DataFrame) -> DataFrame:
    return exploring.decide_labels(rows, run.pipeline.label_set, run.pipeline.exploration)


def _decided_anew(work: Job, wanted: DataFrame) -> list[DataFrame]:
    """Rows that stand, whose labels do not follow from their scores as the exploration share is now: corrected."""
    run = work.run
    standing = live_tags(run).select(*TAGS.names).join(wanted, KEY, "left_anti")
    anew = work.hold(exploring.changed_decisions(standing, run.pipeline.label_set, run.pipeline.exploration))
    count = anew.count()
    if not count:
        return []
    work.notes.append(f"the labels of {count} documents were decided anew, from the scores that they had")
    return [anew]


def worker_settings(run: PipelineRun, model: ModelRef) -> WorkerSettings:
    """How the workers load the model."""
    return WorkerSettings(model, run.device, run.precision, threads_per_task(run.spark), gpu_sharing(run.spark))


def _score(work: Job, contents: DataFrame, wanted: DataFrame, model: ModelRef) -> None:
    """Stage the scores of what is wanted and not staged yet, slice by slice; tell the progress."""
    run = work.run
    spark, label_set = run.spark, run.pipeline.label_set
    tables.ensure(spark, run.lake.path("staged"), STAGED_SPEC)
    pending = work.hold(tagging.rows_without_scores(wanted, _staged(run, model, wanted)))
    total = pending.count()
    meter = Meter(spark.sparkContext)
    settings = worker_settings(run, model)
    slices = ceil(total / _SLICE_ROWS)
    started = time.perf_counter()
    with _reported(meter, total, run):
        for index in range(slices):
            run.runs.check_current(work.manifest)  # rather than score in vain
            keys = pending.where(F.pmod(F.xxhash64(KEY), F.lit(slices)) == index).select(KEY)
            tagged = tagging.tag(contents.join(keys, KEY, "left_semi"), label_set, settings, run.run_id, meter)
            work.commit("staged", partial(tables.append, tagged))
    elapsed = time.perf_counter() - started
    usage, loads = meter.total.usage, meter.total.loads
    work.known |= {"model_loads": loads, "tokens": usage.tokens, "padding_share": usage.padding_share}
    if total:
        work.known |= {"texts_per_s": total / elapsed, "tokens_per_s": usage.tokens / elapsed}


def _check_errors(work: Job, ready: DataFrame, total: int) -> None:
    """Raise, with nothing merged, if a text is missing, or if too many could not be scored."""
    run = work.run
    outcomes = _outcomes(ready)
    found = sum(outcomes.values())
    if found != total:
        raise TableError(
            f"{run.documents.name} changed while it was read: {total} texts were to be tagged, {found} of them are "
            "still there; run it again (a Delta source is read at one version, and can be written meanwhile)"
        )
    errors = _errors(outcomes)
    work.known["errors"] = errors
    failed, allowed = sum(errors.values()), run.pipeline.max_error_ratio
    if failed > allowed * total:
        # Those that went well need not be scored again once the source, or the limit, is mended.
        work.commit("staged", partial(tables.delete_rows, run.spark, condition="error IS NOT NULL"))
        listed = ", ".join(f"{code}: {count}" for code, count in errors.items())
        raise ErrorShareError(
            f"{failed} of {total} texts could not be scored ({listed}): a share of {failed / total:.3f}, "
            f"at most {allowed} is allowed; nothing was tagged. Mend the source, or raise max_error_ratio"
        )


def _read_back(run: PipelineRun) -> tuple[dict[str, Any], int]:
    """What stands in `tags` from this run, and how many documents have tags in all."""
    own = F.col("run_id") == run.run_id
    found = live_tags(run).groupBy(own.alias("own"), F.expr(_CODE).alias("code")).count().collect()
    outcomes = {row["code"]: row["count"] for row in found if row["own"]}
    mine = live_tags(run).where(own)
    each = mine.select("labels", F.explode("scores").alias("label", "score"))
    part = F.least(F.floor(F.col("score") * HISTOGRAM_BINS), F.lit(HISTOGRAM_BINS - 1))
    passed = F.expr("array_contains(labels, label)")
    labels = run.pipeline.label_set.names if outcomes else ()
    histograms = {label: [0] * HISTOGRAM_BINS for label in labels}
    label_counts = dict.fromkeys(labels, 0)
    scored = each.groupBy("label", part.alias("bin"), passed.alias("passed")).count()
    for row in scored.collect() if outcomes else ():
        histograms[row["label"]][row["bin"]] += row["count"]
        label_counts[row["label"]] += row["count"] if row["passed"] else 0
    facts = {
        "tagged": sum(outcomes.values()),
        "errors": _errors(outcomes),
        "label_counts": label_counts,
        "score_histograms": histograms,
    }
    return facts, sum(row["count"] for row in found)


def _outcomes(rows: DataFrame) -> dict[str, int]:
    """How many rows there are by error code; "" for those without an error."""
    return counts(rows, F.expr(_CODE))


def _errors(outcomes: dict[str, int]) -> dict[str, int]:
    return {code: count for code, count in outcomes.items() if code}


@contextmanager
def _reported(meter: Meter, total: int, run: PipelineRun) -> Iterator[None]:
    """Tell the run's `on_progress` how many texts are done, while the block runs and once at its end."""
    finished = Event()

    def watch() -> None:
        while not finished.wait(_POLL_SECONDS):
            run.on_progress(meter.total.usage.texts, total)

    watcher = Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()
        run.on_progress(meter.total.usage.texts, total)
