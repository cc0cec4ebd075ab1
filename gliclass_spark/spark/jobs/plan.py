"""What a run would do, before it does it. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from pyspark.sql import DataFrame
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.inference.results import Usage
from gliclass_spark.runs.outcomes import SAMPLES, SampleDocument
from gliclass_spark.spark.delta import change_feed
from gliclass_spark.spark.delta.runs_table import incremental_base
from gliclass_spark.spark.delta.schema import KEY
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun
from gliclass_spark.spark.jobs.tag import check, live_tags, pending_documents, tag_settings, to_read, worker_settings
from gliclass_spark.spark.session import task_slots
from gliclass_spark.spark.source import with_content
from gliclass_spark.spark.transforms import exploring, filtering, routing, tagging
from gliclass_spark.spark.transforms.rule_expressions import lenient_sql
from gliclass_spark.spark.worker.usage_meter import Meter

DEFAULT_SAMPLE = 200


@dataclass(frozen=True)
class Expected:
    """One thing that documents would come to. known: those that have their scores. estimated: of those
    that have to be tagged first, by the share of the sample.
    """

    outcome: str
    known: int = 0
    estimated: int = 0
    documents: list[SampleDocument] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """documents: in the source. to_tag: those that the model would be asked about. sampled: how many of
    these were scored for the estimates. tokens, seconds: estimates for all of to_tag, without the
    model's loading and the writing; texts_per_s: of one task slot; all three None if there was nothing to
    score. outcomes: empty for a pipeline that only tags.
    """

    documents: int
    to_tag: int
    sampled: int
    tokens: int | None
    seconds: float | None
    texts_per_s: float | None
    outcomes: list[Expected]


def plan(run: PipelineRun, sample_rows: int = DEFAULT_SAMPLE) -> Plan:
    """Look at what a run would tag and decide. Scores `sample_rows` of the texts that it would tag."""
    known = run.runs.recent()
    model = check(run, known)
    spark, pipeline = run.spark, run.pipeline
    source = run.documents.delta
    read = to_read(run, source, known)
    documents = run.documents.read(read.until)
    base = incremental_base(known, "tag", tag_settings(run, model.digest))
    changed = change_feed.full_scan(documents)
    if source is not None and base is not None and not run.full and run.retag != "all":
        changed = change_feed.read_changes(spark, source, base.inputs["source"], read, run.documents.select_columns)
    contents = with_content(changed.rows, pipeline.source.text)
    wanted = pending_documents(run, contents, model).persist()
    to_tag = wanted.count()

    chosen = wanted.orderBy(F.xxhash64(KEY)).limit(sample_rows).select(KEY)
    meter = Meter(spark.sparkContext)
    settings = worker_settings(run, model)
    scored = tagging.tag(contents.join(chosen, KEY, "left_semi"), pipeline.label_set, settings, run.run_id, meter)
    sample = exploring.decide_labels(scored, pipeline.label_set, pipeline.exploration).persist()
    sampled = sample.count()
    usage = meter.total.usage
    scale = to_tag / sampled if sampled else 0.0
    with lenient_sql(spark):
        settled: list[DataFrame] = []
        if run.lake.exists(spark, "tags"):
            answered = documents.join(wanted.select(KEY), KEY, "left_anti")
            standing = exploring.decide_labels(live_tags(run), pipeline.label_set, pipeline.exploration)
            settled = [_decided(run, answered, standing)]
        guessed = _decided(run, documents.join(chosen, KEY, "left_semi"), sample.withColumn("deleted_at", F.lit(None)))
        outcomes = _outcomes(run, settled, guessed, scale)
    return Plan(documents.count(), to_tag, sampled, *_estimate(usage, scale, task_slots(spark)), outcomes)


def _estimate(usage: Usage, scale: float, slots: int) -> tuple[int | None, float | None, float | None]:
    if not usage.texts:
        return None, None, None
    return round(usage.tokens * scale), usage.seconds * scale / slots, usage.texts / usage.seconds


def _decided(run: PipelineRun, documents: DataFrame, tags: DataFrame) -> DataFrame:
    """Documents with their tags, and all that they would come to as `outcomes`."""
    pipeline = run.pipeline
    asked = filtering.tags_of_label_set(tags, pipeline.label_set)
    tagged = filtering.with_tags(documents, with_content(documents, pipeline.source.text), asked)
    decided = routing.route(filtering.decide(tagged, pipeline.rules, run.run_id), pipeline.rules, run.run_id)
    to = F.transform("routes", lambda name: F.concat(F.lit("to "), name)) if "route" in pipeline.steps else F.array()
    kept = F.array_union(F.array(F.lit("kept")), to)
    rejected = F.array(F.concat(F.lit("rejected: "), F.col("reason")))
    quarantined = F.array(F.concat(F.lit("quarantined: "), F.col("error.code")))
    came_to = F.when(F.col("error").isNotNull(), quarantined).when(F.col("reason").isNotNull(), rejected)
    return decided.withColumn("outcomes", came_to.otherwise(kept))


def _outcomes(run: PipelineRun, settled: Iterable[DataFrame], guessed: DataFrame, scale: float) -> list[Expected]:
    """One for each outcome that the rules name, in their order, then those that only the documents brought up."""
    if "filter" not in run.pipeline.steps:
        return []
    rules = run.pipeline.rules
    found = {"kept": Expected("kept")}
    to = rules.destinations if "route" in run.pipeline.steps else ()
    for name in (*(f"rejected: {rule.reason}" for rule in rules.reject), *(f"to {name}" for name in to)):
        found[name] = Expected(name)
    for frame, factor in (*((each, 0.0) for each in settled), (guessed, scale)):
        rows = frame.select("*", F.explode("outcomes").alias("outcome"))
        for row in rows.groupBy("outcome").count().orderBy("outcome").collect():
            before = found.get(row["outcome"], Expected(row["outcome"]))
            exact, estimated = (0, round(row["count"] * factor)) if factor else (row["count"], 0)
            documents = before.documents
            if len(documents) < SAMPLES:
                some = rows.where(F.col("outcome") == row["outcome"]).orderBy("content_hash", KEY).limit(SAMPLES)
                documents = [
                    *documents,
                    *(SampleDocument.of(each, run.pipeline.source.text) for each in some.collect()),
                ]
            found[row["outcome"]] = Expected(
                row["outcome"], before.known + exact, before.estimated + estimated, documents[:SAMPLES]
            )
    return list(found.values())
