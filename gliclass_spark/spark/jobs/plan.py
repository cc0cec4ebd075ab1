"""The plan of a run: what it would tag and decide, estimated from a sample. Writes nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.inference.results import Usage
from gliclass_spark.runs.freshness import incremental_base
from gliclass_spark.runs.outcomes import SAMPLES, SampleDocument
from gliclass_spark.runs.settings import tag_settings
from gliclass_spark.spark.delta.change_feed import full_scan, read_changes
from gliclass_spark.spark.delta.column_names import helper
from gliclass_spark.spark.delta.schema import KEY
from gliclass_spark.spark.jobs.decision_tables import count_by
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun
from gliclass_spark.spark.jobs.run_date import date_settings
from gliclass_spark.spark.jobs.tag_steps.scoring_queue import worker_settings
from gliclass_spark.spark.jobs.tag_steps.tag_check import check
from gliclass_spark.spark.jobs.tag_steps.tag_input import (
    count_pending,
    live_tags,
    pending_documents,
    source_range,
)
from gliclass_spark.spark.session import task_slots
from gliclass_spark.spark.source import with_content
from gliclass_spark.spark.transforms import exploring, filtering, routing, tagging
from gliclass_spark.spark.transforms.rule_expressions import lenient_sql
from gliclass_spark.spark.worker.usage_meter import Meter

DEFAULT_SAMPLE, FIRST_SAMPLE = 200, 16
_OUTCOMES, _OUTCOME, _RANK = helper("outcomes"), helper("outcome"), helper("rank")


@dataclass(frozen=True)
class PlannedOutcome:
    """An outcome that documents would come to.

    outcome: "kept", "rejected: REASON", "quarantined: CODE" or "to ROUTE". scored: documents that have
    their scores. estimated: of those to tag first, by the share of the sample. samples: some of them.
    """

    outcome: str
    scored: int = 0
    estimated: int = 0
    samples: list[SampleDocument] = field(default_factory=list)


@dataclass(frozen=True)
class Plan:
    """What a run would do.

    documents: in the source. to_tag: those to score. sampled: how many of these were scored for the
    estimates. tokens, seconds: estimates for all of to_tag, without loading the model and writing;
    texts_per_s: of one task slot; these three are None if there was nothing to score. outcomes: empty
    for a pipeline that only tags.
    """

    documents: int
    to_tag: int
    sampled: int
    tokens: int | None
    seconds: float | None
    texts_per_s: float | None
    outcomes: list[PlannedOutcome]


def plan(
    run: PipelineRun, sample_rows: int = DEFAULT_SAMPLE, on_first_estimate: Callable[[Plan], None] | None = None
) -> Plan:
    """Return what a run would tag and decide. Scores `sample_rows` of the texts that it would tag.

    on_first_estimate: called, if the run reads the whole source, before that is read: with a plan of the first
    FIRST_SAMPLE documents that Spark finds, in which every document is to be tagged.
    """
    run = run.in_own_session()
    recent = run.runs.recent()
    model = check(run, recent)
    pipeline = run.pipeline
    source = run.documents.delta
    version = source_range(run, source, recent)
    documents = run.documents.read(version.until)
    base = incremental_base(recent, "tag", tag_settings(run.pipeline, model.digest, run.retag))
    changes = full_scan(documents)
    if source is not None and base is not None and not run.full and run.retag != "all":
        last_read, commit = base.inputs["source"], base.commits.get("source")
        changes = read_changes(run.spark, source, last_read, commit, version, run.documents.select_columns)
    elif on_first_estimate is not None and sample_rows > FIRST_SAMPLE:
        on_first_estimate(_first_estimate(run, documents, model))
    contents = with_content(changes.rows, pipeline.source.text)
    pending = pending_documents(run, contents, model, recent).persist()
    pending_count, text_count = count_pending(pending)

    sample_ids = pending.orderBy(F.xxhash64(KEY)).limit(sample_rows).select(KEY)
    sample_contents = contents.join(sample_ids, KEY, "left_semi")
    sample_tags, sampled, usage = _score_sample(run, sample_contents, min(sample_rows, pending_count), model)
    scale = pending_count / sampled if sampled else 0.0
    with lenient_sql(run.spark):
        scored = None
        if run.lake.exists(run.spark, "tags"):
            scored_documents = documents.join(pending.select(KEY), KEY, "left_anti")
            current_tags = exploring.decide_labels(live_tags(run), pipeline.label_set, pipeline.exploration)
            scored = _with_outcomes(run, scored_documents, current_tags)
        sample_documents = documents.join(sample_ids, KEY, "left_semi")
        sample = _with_outcomes(run, sample_documents, sample_tags).persist()
        outcomes = _count_outcomes(run, scored, sample, scale)
    # Equal texts are scored once.
    estimates = _estimate(usage, text_count / sampled if sampled else 0.0, task_slots(run.spark))
    return Plan(documents.count(), pending_count, sampled, *estimates, outcomes)


def _first_estimate(run: PipelineRun, documents: DataFrame, model: ModelRef) -> Plan:
    """Return a plan from a few documents that Spark finds first: it reads one file, and no tags."""
    count = documents.count()
    first = documents.limit(FIRST_SAMPLE).persist()
    contents = with_content(first, run.pipeline.source.text)
    tags, sampled, usage = _score_sample(run, contents, min(FIRST_SAMPLE, count), model)
    scale = count / sampled if sampled else 0.0
    with lenient_sql(run.spark):
        outcomes = _count_outcomes(run, None, _with_outcomes(run, first, tags), scale)
    return Plan(count, count, sampled, *_estimate(usage, scale, task_slots(run.spark)), outcomes)


def _score_sample(run: PipelineRun, contents: DataFrame, count: int, model: ModelRef) -> tuple[DataFrame, int, Usage]:
    """Return the `tags` rows of the `count` sampled documents, how many were scored, and the engine's usage."""
    label_set = run.pipeline.label_set
    meter = Meter(run.spark.sparkContext)
    settings = worker_settings(run, model)
    scored = tagging.tag(contents, count, label_set, settings, run.run_id, meter)
    tags = exploring.decide_labels(scored, label_set, run.pipeline.exploration)
    tags = tags.withColumn("deleted_at", F.lit(None)).persist()
    return tags, tags.count(), meter.total.usage  # in this order: the meter sums what has been computed


def _estimate(usage: Usage, scale: float, slots: int) -> tuple[int | None, float | None, float | None]:
    """Return tokens, seconds and texts/s of one slot; None if nothing was scored."""
    if not usage.texts:
        return None, None, None
    return round(usage.tokens * scale), usage.seconds * scale / slots, usage.texts / usage.seconds


def _with_outcomes(run: PipelineRun, documents: DataFrame, tags: DataFrame) -> DataFrame:
    """Return the documents with their tags and decisions, and _OUTCOMES, by name."""
    pipeline = run.pipeline
    label_set_tags = filtering.tags_of_label_set(tags, pipeline.label_set)
    tagged = filtering.with_tags(documents, with_content(documents, pipeline.source.text), label_set_tags)
    dated = date_settings(run, [])
    decided = filtering.decide(tagged, pipeline.rules, run.run_id, **dated)
    decided = routing.route(decided, pipeline.rules, run.run_id, **dated)
    has_routes = "route" in pipeline.steps
    routes = F.transform(routing.ROUTES, lambda name: F.concat(F.lit("to "), name)) if has_routes else F.array()
    kept = F.array_union(F.array(F.lit("kept")), routes)
    rejected = F.array(F.concat(F.lit("rejected: "), F.col("reason")))
    quarantined = F.array(F.concat(F.lit("quarantined: "), F.col("error.code")))
    outcomes = F.when(F.col("error").isNotNull(), quarantined).when(F.col("reason").isNotNull(), rejected)
    return decided.withColumn(_OUTCOMES, outcomes.otherwise(kept))


def _count_outcomes(
    run: PipelineRun, scored: DataFrame | None, sample: DataFrame, scale: float
) -> list[PlannedOutcome]:
    """Return the outcomes that the rules name, in their order, then those that only the documents have."""
    if "filter" not in run.pipeline.steps:
        return []
    rules = run.pipeline.rules
    routes = rules.destinations if "route" in run.pipeline.steps else ()
    names = ["kept", *(f"rejected: {rule.reason}" for rule in rules.reject), *(f"to {name}" for name in routes)]
    outcomes = {name: PlannedOutcome(name) for name in names}
    frames = [(sample, scale)] if scored is None else [(scored, 0.0), (sample, scale)]
    for frame, factor in frames:
        rows = frame.select("*", F.explode(_OUTCOMES).alias(_OUTCOME))
        counts = count_by(rows, _OUTCOME)
        current = {name: outcomes.get(name, PlannedOutcome(name)) for name in counts}
        samples = _samples(run, rows, [name for name in counts if len(current[name].samples) < SAMPLES])
        for name, count in counts.items():
            outcome = current[name]
            scored_count, estimated_count = (0, round(count * factor)) if factor else (count, 0)
            outcomes[name] = PlannedOutcome(
                name,
                outcome.scored + scored_count,
                outcome.estimated + estimated_count,
                [*outcome.samples, *samples[name]][:SAMPLES],
            )
    return list(outcomes.values())


def _samples(run: PipelineRun, rows: DataFrame, names: list[str]) -> dict[str, list[SampleDocument]]:
    """Return the first SAMPLES documents of each of these outcomes, by their hashes, in one Spark job."""
    samples: defaultdict[str, list[SampleDocument]] = defaultdict(list)
    if names:
        rank = F.row_number().over(Window.partitionBy(_OUTCOME).orderBy("content_hash", KEY))
        ranked = rows.where(F.col(_OUTCOME).isin(names)).withColumn(_RANK, rank)
        for row in ranked.where(F.col(_RANK) <= SAMPLES).orderBy(_RANK).collect():
            samples[row[_OUTCOME]].append(SampleDocument.of(row, run.pipeline.source.text))
    return samples
