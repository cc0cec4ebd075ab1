"""Reviews of the demo's decisions, by those who know best: the packages' authors, in their trove classifiers."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from gliclass_spark.demo.package_documents import PackageDocument

# What the demo's labels are called in the classifiers; a topic holds for all that stands below it.
_TOPICS = {
    "machine learning": ("Scientific/Engineering :: Artificial Intelligence",),
    "scientific computing": ("Scientific/Engineering",),
    "data engineering": ("Scientific/Engineering :: Information Analysis", "System :: Distributed Computing"),
    "web development": ("Internet :: WWW/HTTP",),
    "databases": ("Database",),
    "security": ("Security",),
    "testing": ("Software Development :: Testing", "Software Development :: Quality Assurance"),
    "networking": ("System :: Networking", "Internet :: Name Service (DNS)", "Communications"),
    "command line tools": ("Terminals", "System :: Shells"),
    "packaging": ("System :: Archiving :: Packaging", "Software Development :: Build Tools"),
    "documentation": ("Documentation", "Software Development :: Documentation"),
    "text processing": ("Text Processing",),
}
_GOLDEN_SHARE = 1 / 3


def authors_labels(document: PackageDocument) -> list[str]:
    """The demo's labels that the package's classifiers name."""
    return [
        label
        for label, topics in _TOPICS.items()
        if any(own == topic or own.startswith(f"{topic} :: ") for own in document.topics for topic in topics)
    ]


def write_golden(documents: Iterable[PackageDocument], path: Path) -> int:
    """Write the golden set: a third of the packages that have such labels, by their names. Gives their number."""
    golden = [document for document in documents if authors_labels(document) and _is_golden(document)]
    rows = {
        "text": [document.description for document in golden],
        "labels": [authors_labels(document) for document in golden],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(rows), path)
    return len(golden)


def write_reviews(
    documents: Iterable[PackageDocument], tags: Sequence[Mapping[str, Any]], labels: Sequence[str], path: Path
) -> int:
    """Write a file of signals about the decisions in `tags` (doc_id, labels): what authors would say of each label.

    Packages of the golden set, and those without such labels, are not reviewed. Gives the number of signals.
    """
    known = {each.package: authors_labels(each) for each in documents if not _is_golden(each)}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    rows = []
    for decision in tags:
        true = known.get(decision["doc_id"], [])
        for label in labels if true else ():
            given = label in decision["labels"]
            verdict = ("accepted" if given else "corrected") if label in true else "rejected"
            rows.append((decision["doc_id"], label, verdict, "authors", now))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("doc_id", "label", "verdict", "source", "observed_at"))
        writer.writerows(rows)
    return len(rows)


def _is_golden(document: PackageDocument) -> bool:
    place = int.from_bytes(hashlib.sha256(document.package.encode()).digest()[:4]) / 2**32
    return place < _GOLDEN_SHARE
