"""Outcomes of a run: kept, rejected, quarantined and routed documents, their tables, and samples of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from gliclass_spark.config.catalog import CatalogSchema, table_path
from gliclass_spark.runs.manifest import Manifest

KEPT, REJECTED, QUARANTINED, ROUTED = "kept", "rejected", "quarantined", "routed"
KINDS = (KEPT, REJECTED, QUARANTINED, ROUTED)
MAX_LISTED_DOCUMENTS = 1000
# Sample documents of an outcome, and the length of their texts.
SAMPLES = 3
_TEXT_CHARS = 600


@dataclass(frozen=True)
class Outcome:
    """One outcome of a run's documents.

    kind: KEPT, REJECTED, QUARANTINED or ROUTED. name: the reject reason, the error's code or the route;
    empty for all of the kind. documents: their count. path: the Delta table that holds them. version: the
    table's version after the run, None for the latest. run_id: set if the table holds documents of other
    runs too. table: the table's name in the catalog, if it has one.
    """

    kind: str
    name: str
    documents: int
    path: str
    version: int | None = None
    run_id: str | None = None
    table: str | None = None

    @cached_property
    def anchor(self) -> str:
        """The outcome's anchor on the page, which differs for any two names."""
        plain = "".join(c if c.isascii() and c.isalnum() else f"-{ord(c):x}-" if c != "_" else c for c in self.name)
        return f"documents-{self.kind}-{plain}" if plain else f"documents-{self.kind}"

    @cached_property
    def values(self) -> dict[str, str]:
        """The column values that select its rows in the table; empty if they are all rows."""
        column = {REJECTED: "reason", QUARANTINED: "error.code"}.get(self.kind)
        values = {column: self.name} if column and self.name else {}
        return {**values, **({"run_id": self.run_id} if self.run_id else {})}

    @cached_property
    def query(self) -> str:
        """One line of PySpark that lists its documents."""
        version = f'.option("versionAsOf", {self.version})' if self.version is not None else ""
        condition = " AND ".join(f"{column} = {_spark_sql(value)}" for column, value in self.values.items())
        where = f".where({condition!r})" if condition else ""
        columns = '"doc_id", "error"' if self.kind == QUARANTINED else '"doc_id", "labels", "scores"'
        rows = min(max(self.documents, 1), MAX_LISTED_DOCUMENTS)
        named, stored = f"spark.read{version}.table({self.table!r})", f'spark.read.format("delta"){version}'
        load = named if self.table is not None else f"{stored}.load({self.path!r})"
        return f"{load}{where}.select({columns}).show({rows}, truncate=False)"


@dataclass(frozen=True)
class SampleDocument:
    """A sample document: its id, the beginning of its text (None for a null text), the scores of its labels,
    and the message of its error, if it has one.
    """

    doc_id: str
    text: str | None
    scores: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None

    @classmethod
    def of(cls, row: Any, text: str) -> SampleDocument:
        """Return the document of a row of a decision table; `text` names the column of the text."""
        error = row["error"]
        scores = {label: row["scores"][label] for label in row["labels"]}
        return cls(row["doc_id"], _excerpt(row[text]), scores, error["message"] if error else None)


@dataclass(frozen=True)
class Sample:
    """Sample documents of an outcome."""

    outcome: Outcome
    documents: Sequence[SampleDocument]


def outcomes(manifests: Sequence[Manifest], tables: str | CatalogSchema) -> list[Outcome]:
    """Return the outcomes of a run that have documents, in the order of the page. tables: see `Pipeline.tables`.

    Quarantined documents are split by error code if this run's tag job scored all of them; if some failed
    in earlier runs, they are one outcome.
    """
    result: list[Outcome] = []
    jobs = {manifest.job: manifest for manifest in manifests}

    def add(kind: str, name: str, documents: int | None, table: str, manifest: Manifest) -> None:
        if documents:
            run_id = None if manifest.full_scan else manifest.run_id
            path, named = table_path(tables, table), tables.table(table) if isinstance(tables, CatalogSchema) else None
            version = manifest.outputs[table].until if table in manifest.outputs else None
            result.append(Outcome(kind, name, documents, path, version, run_id, named))

    if filtered := jobs.get("filter"):
        errors = jobs["tag"].errors if "tag" in jobs else {}
        add(KEPT, "", filtered.kept, "kept", filtered)
        for reason, documents in filtered.rejected.items():
            add(REJECTED, reason, documents, "rejected", filtered)
        if sum(errors.values()) != (filtered.quarantined or 0):
            errors = {}
            add(QUARANTINED, "", filtered.quarantined, "quarantined", filtered)
        for code, documents in errors.items():
            add(QUARANTINED, code, documents, "quarantined", filtered)
    if routed := jobs.get("route"):
        for route, documents in routed.routed.items():
            add(ROUTED, route, documents, route, routed)
    return result


def _excerpt(text: str | bytes | None) -> str | None:
    if isinstance(text, (bytes, bytearray)):
        text = bytes(text[: 4 * _TEXT_CHARS]).decode("utf-8", errors="replace")
    return None if text is None else str(text)[:_TEXT_CHARS]


def _spark_sql(text: str) -> str:
    """Return the text as a string literal of Spark SQL."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
