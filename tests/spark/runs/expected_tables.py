"""The tables that a pipeline over a source should have, computed from the source's rows without Spark."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from typing import Any

from delta_pipeline import ADDED
from history_world import REJECT, ROUTES, WHERE, World
from stored_tables import stored_table

from gliclass_spark.inference.engine import Engine
from gliclass_spark.inference.results import Classification
from gliclass_spark.labels import LabelSet
from gliclass_spark.spark.delta.table_ref import TableRef
from gliclass_spark.spark.jobs import PipelineRun

Row = dict[str, Any]
Tables = dict[str, dict[str, Row]]

NOT_COMPARED = {"run_id", "tagged_at", "deleted_at", "explored", "propensities"}


@cache
def _engine(model: str) -> Engine:
    return Engine.from_pretrained(model, device="cpu", precision="float32")


@cache
def _classified(model: str, label_set: str, text: str | None) -> Classification:
    [record] = _engine(model).classify([text], LabelSet.from_json(label_set))
    return record


def _tags(run: PipelineRun, text: str | None) -> Row:
    pipeline = run.pipeline
    record = _classified(pipeline.model, pipeline.label_set.canonical_json, text)
    return {
        "content_hash": text if text is None else sha256(text.encode()).hexdigest(),
        "label_set": pipeline.label_set.name,
        "label_set_hash": pipeline.label_set.hash,
        # Scores of a batch of one differ from those of a larger one in the last digits.
        "scores": {label: round(score, 4) for label, score in record.scores.items()},
        "labels": [label.label for label in record.labels],
        "token_count": record.token_count,
        "chunk_count": record.chunk_count,
        "error": record.error and {"code": record.error.code, "message": record.error.message},
        "model": pipeline.model,
        "model_digest": _engine(pipeline.model).ref.digest,
    }


def expected_tables(
    world: World, run: PipelineRun, types: dict[str, str], documents: list[Row]
) -> tuple[dict[str, str], Tables]:
    """Return the documents' columns with their types, and the rows of each table by doc_id.

    types: those of the source's columns. documents: the source's rows that the pipeline reads.
    """
    pipeline = run.pipeline
    source = pipeline.source
    names = [source.id, source.text, *(source.columns if source.columns is not None else types)]
    columns = {"doc_id": "string", **{name: types[name] for name in names}}
    tables: Tables = {name: {} for name in ("tags", "kept", "rejected", "quarantined", *pipeline.rules.destinations)}
    routes, every = ROUTES[world.settings.routes]
    reject, route_rules = world.rules(REJECT[world.settings.reject]), world.rules(routes)
    for document in documents:
        doc_id, tags = document["id"], _tags(run, document[world.text])
        tables["tags"][doc_id] = {"doc_id": doc_id, **tags}
        row = {"doc_id": doc_id, **{name: document[name] for name in names}, **tags, "rules_hash": pipeline.rules.hash}
        if tags["error"] is not None:
            tables["quarantined"][doc_id] = row
            continue
        facts = {**document, **row}
        reasons = [rule.name for rule in reject if rule.holds(facts)]
        if reasons:
            tables["rejected"][doc_id] = {**row, "reason": reasons[0]}
            continue
        tables["kept"][doc_id] = row
        matching = [rule.name for rule in route_rules if rule.holds(facts)]
        for route in (matching if every else matching[:1]) or [pipeline.default_route]:
            tables[route][doc_id] = {**row, "route": route}
    return columns, tables


def actual_tables(run: PipelineRun) -> tuple[dict[str, dict[str, str]], Tables, set[str]]:
    """Return the documents' columns in each table, its rows, and the ids of live tags for whatever label set.

    A document that a table has twice is under two keys.
    """
    columns: dict[str, dict[str, str]] = {}
    tagged: set[str] = set()
    tables: Tables = {}
    for name in ("tags", "kept", "rejected", "quarantined", *run.pipeline.rules.destinations):
        types, rows = stored_table(run.spark, run.lake.table(name))
        if name != "tags":
            columns[name] = {column: kind for column, kind in types.items() if column not in ADDED}
        tables[name] = {}
        for row in rows:
            if row.get("deleted_at") is not None:
                continue
            values = {column: value for column, value in row.items() if column not in NOT_COMPARED}
            if name == "tags":
                tagged.add(values["doc_id"])
                if values["label_set_hash"] != run.pipeline.label_set.hash:
                    continue
            values["scores"] = {label: round(score, 4) for label, score in values["scores"].items()}
            key = values["doc_id"]
            tables[name][f"{key} again" if key in tables[name] else key] = values
    return columns, tables, tagged


def assert_as_expected(world: World, run: PipelineRun) -> None:
    """Compare the tables that a run left with those of a pipeline that ran once over the source as it is."""
    types, rows = stored_table(run.spark, TableRef(path=str(world.path)))
    reads = WHERE[world.settings.where][1]
    documents = [row for row in rows if reads(row)]
    expected_columns, expected = expected_tables(world, run, types, documents)
    columns, tables, tagged = actual_tables(run)
    assert tables == expected
    assert columns == dict.fromkeys(columns, expected_columns)
    assert tagged <= {str(document["id"]) for document in documents}
