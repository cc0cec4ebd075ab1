"""The plan of a run: what it would tag and decide, estimated from a sample. Writes nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from pyspark.sql import DataFrame, Row, Window
from pyspark.sql import functions as F  # noqa: N812 - the name that Spark's users know

from gliclass_spark.checkpoints.files import CALIBRATION
from gliclass_spark.checkpoints.model_ref import ModelRef
from gliclass_spark.inference.results import Usage
from gliclass_spark.labels import calibrated
from gliclass_spark.runs.freshness import incremental_base
from gliclass_spark.runs.outcomes import SAMPLES, SampleDocument
from gliclass_spark.runs.settings import tag_settings
from gliclass_spark.spark.delta.change_feed import full_scan, read_changes
from gliclass_spark.spark.delta.column_names import column, helper
from gliclass_spark.spark.delta.schema import KEY
from gliclass_spark.spark.jobs.decision_counts import count_by
from gliclass_spark.spark.jobs.pipeline_run import PipelineRun
from gliclass_spark.spark.jobs.run_date import date_settings
from gliclass_spark.spark.jobs.tag_steps.pending import count_pending, pending_documents
from gliclass_spark.spark.jobs.tag_steps.scoring_queue import worker_settings
from gliclass_spark.spark.jobs.tag_steps.tag_check import check
from gliclass_spark.spark.jobs.tag_steps.tag_input import live_tags, source_range
from gliclass_spark.spark.session import task_slots
from gliclass_spark.spark.source import with_content
from gliclass_spark.spark.transforms import exploring, filtering, routing, tagging
from gliclass_spark.spark.transforms.rule_expressions import lenient_sql
from gliclass_spark.spark.worker.usage_meter import Meter

DEFAULT_SAMPLE, FIRST_SAMPLE = 200, 16
# The column of a document's outcomes.
OUTCOMES = helper("outcomes")
_OUTCOME, _RANK = helper("outcome"), helper("rank")
# Of a sampled document, what a plan shows: the text's beginning alone.
_SAMPLE_COLUMNS, _TEXT_LENGTH = (KEY, "content_hash", "labels", "scores", "error"), 2400


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
    source = run.documents.delta
    version = source_range(run, source, recent)
    documents = run.documents.read(version.until)
    base = incremental_base(recent, "tag", tag_settings(run.pipeline, model.digest, run.retag))
    changes, document_count = full_scan(documents), None
    if source is not None and base is not None and not run.full and run.retag != "all":
        last_read, commit = base.inputs["source"], base.commits.get("source")
        changes = read_changes(run.spark, source, last_read, commit, version, run.documents.select_columns)
    elif on_first_estimate is not None and sample_rows > FIRST_SAMPLE:
        first = _first_estimate(run, documents, model)
        on_first_estimate(first)
        document_count = first.documents
    tags = run.lake.read(run.spark, "tags") if run.lake.exists(run.spark, "tags") else None
    pending = pending_documents(run, changes, tags, model, recent).persist()
    counts = count_pending(pending)

    sample_ids = pending.orderBy(F.xxhash64(KEY)).limit(sample_rows).select(KEY)
    sample_documents = changes.rows.join(sample_ids, KEY, "left_semi").persist()
    sample, usage = _score_sample(run, sample_documents, min(sample_rows, counts.documents), model)
    outcomes = _sample_outcomes(run, sample, counts.documents / len(sample) if sample else 0.0)
    if tags is not None:
        outcomes = _with_scored_documents(run, documents.join(pending.select(KEY), KEY, "left_anti"), model, outcomes)
    elif changes.full_scan:
        document_count = counts.documents
    if document_count is None:
        document_count = documents.count()
    # Equal texts are scored once.
    estimates = _estimate(usage, counts.texts / len(sample) if sample else 0.0, task_slots(run.spark))
    return Plan(document_count, counts.documents, len(sample), *estimates, _in_order(run, outcomes))


def _first_estimate(run: PipelineRun, documents: DataFrame, model: ModelRef) -> Plan:
    """Return a plan from a few documents that Spark finds first: it reads one file, and no tags."""
    count = documents.count()
    sample, usage = _score_sample(run, documents.limit(FIRST_SAMPLE).persist(), min(FIRST_SAMPLE, count), model)
    scale = count / len(sample) if sample else 0.0
    outcomes = _in_order(run, _sample_outcomes(run, sample, scale))
    return Plan(count, count, len(sample), *_estimate(usage, scale, task_slots(run.spark)), outcomes)


def _score_sample(run: PipelineRun, documents: DataFrame, count: int, model: ModelRef) -> tuple[list[Row], Usage]:
    """Score `count` documents, decide about them, and return their rows and the engine's usage. One query."""
    if not count:
        return [], Usage()
    label_set, text = run.pipeline.label_set, run.pipeline.source.text
    meter = Meter(run.spark.sparkContext)
    settings = worker_settings(run, model)
    contents = with_content(documents, text)
    # One worker for up to DEFAULT_SAMPLE texts: a second one would load the model for longer than both score them.
    scored = tagging.tag(contents, count, label_set, settings, run.run_id, meter, partition_texts=DEFAULT_SAMPLE)
    own = calibrated(label_set, model.folder / CALIBRATION)
    tags = exploring.decide_labels(scored, own, run.pipeline.exploration).withColumn("deleted_at", F.lit(None))
    # Scoring may take longer than Spark waits for a broadcast.
    with lenient_sql(run.spark):
        decided = with_outcomes(run, documents, tags.hint("merge"))
        rows = decided.select(
            *_SAMPLE_COLUMNS, F.substring(column(text), 1, _TEXT_LENGTH).alias("text"), OUTCOMES
        ).collect()
    return rows, meter.total.usage


def _estimate(usage: Usage, scale: float, slots: int) -> tuple[int | None, float | None, float | None]:
    """Return tokens, seconds and texts/s of one slot; None if nothing was scored."""
    if not usage.texts:
        return None, None, None
    return round(usage.tokens * scale), usage.seconds * scale / slots, usage.texts / usage.seconds


def with_outcomes(run: PipelineRun, documents: DataFrame, tags: DataFrame) -> DataFrame:
    """Return the documents with their tags and decisions, and OUTCOMES, by name."""
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
    return decided.withColumn(OUTCOMES, outcomes.otherwise(kept))


def _sample_outcomes(run: PipelineRun, sample: list[Row], scale: float) -> dict[str, PlannedOutcome]:
    """Return the outcomes of the sample by name, each document standing for `scale` ones."""
    documents: defaultdict[str, list[Row]] = defaultdict(list)
    # By their hashes, null first.
    for row in sorted(sample, key=lambda row: (row["content_hash"] or "", row[KEY] or "")):
        for name in row[OUTCOMES]:
            documents[name].append(row)
    return {
        name: PlannedOutcome(
            name, 0, round(len(rows) * scale), [SampleDocument.of(row, "text") for row in rows[:SAMPLES]]
        )
        for name, rows in documents.items()
    }


def _with_scored_documents(
    run: PipelineRun, scored: DataFrame, model: ModelRef, outcomes: dict[str, PlannedOutcome]
) -> dict[str, PlannedOutcome]:
    """Return the outcomes with those of the documents that have scores, whose samples go first."""
    if "filter" not in run.pipeline.steps:
        return outcomes
    with lenient_sql(run.spark):
        label_set = calibrated(run.pipeline.label_set, model.folder / CALIBRATION)
        tags = exploring.decide_labels(live_tags(run), label_set, run.pipeline.exploration)
        rows = with_outcomes(run, scored, tags).select("*", F.explode(OUTCOMES).alias(_OUTCOME))
        counts = count_by(rows, _OUTCOME)
        samples = _samples(run, rows)
    merged = dict(outcomes)
    for name, count in counts.items():
        estimate = outcomes.get(name, PlannedOutcome(name))
        merged[name] = replace(estimate, scored=count, samples=[*samples[name], *estimate.samples][:SAMPLES])
    return merged


def _in_order(run: PipelineRun, outcomes: dict[str, PlannedOutcome]) -> list[PlannedOutcome]:
    """Return the outcomes that the rules name, in their order, then those that only the documents have."""
    if "filter" not in run.pipeline.steps:
        return []
    rules = run.pipeline.rules
    routes = rules.destinations if "route" in run.pipeline.steps else ()
    named = ["kept", *(f"rejected: {rule.reason}" for rule in rules.reject), *(f"to {name}" for name in routes)]
    others = sorted(outcomes.keys() - set(named))
    return [outcomes.get(name, PlannedOutcome(name)) for name in (*dict.fromkeys(named), *others)]


def _samples(run: PipelineRun, rows: DataFrame) -> dict[str, list[SampleDocument]]:
    """Return the first SAMPLES documents of each outcome, by their hashes, in one query."""
    samples: defaultdict[str, list[SampleDocument]] = defaultdict(list)
    rank = F.row_number().over(Window.partitionBy(_OUTCOME).orderBy("content_hash", KEY))
    for row in rows.withColumn(_RANK, rank).where(F.col(_RANK) <= SAMPLES).orderBy(_RANK).collect():
        samples[row[_OUTCOME]].append(SampleDocument.of(row, run.pipeline.source.text))
    return samples
