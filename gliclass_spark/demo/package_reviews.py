"""Demo reviews: signals about the demo's decisions, from the trove classifiers of the packages' authors."""

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

# The trove topics of each label of the demo. A topic includes its subtopics.
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


def author_labels(document: PackageDocument) -> list[str]:
    """Return the demo's labels that match the package's classifiers."""
    return [
        label
        for label, topics in _TOPICS.items()
        if any(own == topic or own.startswith(f"{topic} :: ") for own in document.topics for topic in topics)
    ]


def write_golden(documents: Iterable[PackageDocument], path: Path) -> int:
    """Write the golden set, a third of the packages with labels, and return its size.

    The name of a package decides whether it is in the golden set.
    """
    golden = [document for document in documents if author_labels(document) and _is_golden(document)]
    rows = {
        "text": [document.description for document in golden],
        "labels": [author_labels(document) for document in golden],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(rows), path)
    return len(golden)


def write_reviews(
    documents: Iterable[PackageDocument], tags: Sequence[Mapping[str, Any]], labels: Sequence[str], path: Path
) -> int:
    """Write a CSV file of signals about the decisions in `tags` (doc_id, labels), and return their number.

    There is one signal per document and label. Packages of the golden set, and packages without labels, are not
    reviewed.
    """
    labels_by_package = {
        document.package: author_labels(document) for document in documents if not _is_golden(document)
    }
    now = datetime.now(UTC).isoformat(timespec="seconds")
    rows = []
    for decision in tags:
        true_labels = labels_by_package.get(decision["doc_id"], [])
        for label in labels if true_labels else ():
            chosen = label in decision["labels"]
            verdict = ("accepted" if chosen else "corrected") if label in true_labels else "rejected"
            rows.append((decision["doc_id"], label, verdict, "authors", now))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("doc_id", "label", "verdict", "source", "observed_at"))
        writer.writerows(rows)
    return len(rows)


def _is_golden(document: PackageDocument) -> bool:
    uniform = int.from_bytes(hashlib.sha256(document.package.encode()).digest()[:4]) / 2**32
    return uniform < _GOLDEN_SHARE
