"""What can become of a document in a run, where such documents stand, and some of them to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from gliclass_spark.runs.manifest import Manifest

KEPT, REJECTED, QUARANTINED, ROUTED = "kept", "rejected", "quarantined", "routed"
KINDS = (KEPT, REJECTED, QUARANTINED, ROUTED)
MOST_LISTED = 1000
# Documents that are shown of an outcome, and how much of each.
SAMPLES = 3
_TEXT_CHARS = 600


@dataclass(frozen=True)
class Outcome:
    """One end that documents of a run came to.

    kind: KEPT, REJECTED, QUARANTINED or ROUTED. name: the reject reason, the error's code or the route;
    empty for all of the kind. documents: how many. path: the Delta table that holds them. version: the
    table's version after the run, None for its latest. run_id: given when the table holds documents of
    other runs too.
    """

    kind: str
    name: str
    documents: int
    path: str
    version: int | None = None
    run_id: str | None = None

    @cached_property
    def anchor(self) -> str:
        """The id of its place on the page: no two outcomes share it, whatever their names are."""
        plain = "".join(c if c.isascii() and c.isalnum() else f"-{ord(c):x}-" if c != "_" else c for c in self.name)
        return f"documents-{self.kind}-{plain}" if plain else f"documents-{self.kind}"

    @cached_property
    def values(self) -> dict[str, str]:
        """What columns of its table hold in its rows, and in no others; empty if all rows are its."""
        column = {REJECTED: "reason", QUARANTINED: "error.code"}.get(self.kind)
        named = {column: self.name} if column and self.name else {}
        return {**named, **({"run_id": self.run_id} if self.run_id else {})}

    @cached_property
    def query(self) -> str:
        """One line of PySpark that lists its documents."""
        version = f'.option("versionAsOf", {self.version})' if self.version is not None else ""
        condition = " AND ".join(f"{column} = {_spark_sql(value)}" for column, value in self.values.items())
        where = f".where({condition!r})" if condition else ""
        columns = '"doc_id", "error"' if self.kind == QUARANTINED else '"doc_id", "labels", "scores"'
        rows = min(max(self.documents, 1), MOST_LISTED)
        load = f'spark.read.format("delta"){version}.load({self.path!r})'
        return f"{load}{where}.select({columns}).show({rows}, truncate=False)"


@dataclass(frozen=True)
class SampleDocument:
    """A document to look at: its id, the beginning of its text (None for a null text), the scores of the
    labels that it has, and what went wrong with it, if anything did.
    """

    doc_id: str
    text: str | None
    scores: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None

    @classmethod
    def of(cls, row: Any, text: str) -> SampleDocument:
        """A row of a decision's table; `text` names the column of the text."""
        error = row["error"]
        scores = {label: row["scores"][label] for label in row["labels"]}
        return cls(row["doc_id"], _readable(row[text]), scores, error["message"] if error else None)


@dataclass(frozen=True)
class Sample:
    """Some documents of an outcome: three, say."""

    outcome: Outcome
    documents: Sequence[SampleDocument]


def outcomes(manifests: Sequence[Manifest], tables: str) -> list[Outcome]:
    """The outcomes of a run that some document came to, in the order of the page. `tables`: their folder.

    Quarantined documents are told apart by code if this run's tag job met all of them; if some failed in
    runs before, there is one outcome for them all.
    """
    found: list[Outcome] = []
    jobs = {manifest.job: manifest for manifest in manifests}

    def add(kind: str, name: str, documents: int | None, table: str, by: Manifest) -> None:
        if documents:
            run_id = None if by.full_scan else by.run_id
            path = f"{tables.rstrip('/')}/{table}"
            version = by.outputs[table].until if table in by.outputs else None
            found.append(Outcome(kind, name, documents, path, version, run_id))

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
    return found


def _readable(text: str | bytes | None) -> str | None:
    if isinstance(text, (bytes, bytearray)):
        text = bytes(text[: 4 * _TEXT_CHARS]).decode("utf-8", errors="replace")
    return None if text is None else str(text)[:_TEXT_CHARS]


def _spark_sql(text: str) -> str:
    """A string literal of Spark SQL."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
