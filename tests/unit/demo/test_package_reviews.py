"""Reviews of the demo's decisions, and its golden set, which is not trained on."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow.parquet as pq

from gliclass_spark.demo.package_documents import PackageDocument, installed_packages
from gliclass_spark.demo.package_reviews import author_labels, write_golden, write_reviews
from gliclass_spark.labels import LabelSet

ROOT = Path(__file__).parents[3]
NAMES = LabelSet.from_yaml(ROOT / "conf" / "labels" / "software.yaml").names


def document(*topics: str, package: str = "lake") -> PackageDocument:
    return PackageDocument(package, "1", f"the description of {package}", list(topics))


def test_a_topic_includes_its_subtopics_and_nothing_else() -> None:
    assert author_labels(document("Scientific/Engineering :: Artificial Intelligence :: Vision")) == [
        "machine learning",
        "scientific computing",
    ]
    assert author_labels(document("Internet :: WWW/HTTP", "Security")) == ["web development", "security"]
    assert author_labels(document("Internet", "Securityish")) == []
    assert {label for package in installed_packages() for label in author_labels(package)} <= set(NAMES)


def test_documents_of_the_golden_set_are_not_reviewed(tmp_path: Path) -> None:
    documents = installed_packages()
    golden = write_golden(documents, tmp_path / "golden.parquet")
    tags = [{"doc_id": document.package, "labels": []} for document in documents]
    write_reviews(documents, tags, NAMES, tmp_path / "reviews.csv")
    with (tmp_path / "reviews.csv").open(encoding="utf-8") as file:
        reviewed = {row["doc_id"] for row in csv.DictReader(file)}
    golden_rows = pq.read_table(tmp_path / "golden.parquet").to_pydict()
    assert len(golden_rows["text"]) == golden > 10
    assert all(golden_rows["labels"])
    reviewed_texts = {document.description for document in documents if document.package in reviewed}
    assert reviewed
    assert not reviewed_texts & set(golden_rows["text"])


def test_a_review_has_a_verdict_for_every_label(tmp_path: Path) -> None:
    # The first package that is not in the golden set.
    packages = (document("Security", "Database", package=f"lake-{number}") for number in range(99))
    reviewed = next(package for package in packages if not write_golden([package], tmp_path / "golden.parquet"))
    tags = [{"doc_id": reviewed.package, "labels": ["security", "testing"]}, {"doc_id": "unknown", "labels": ["x"]}]
    signals = write_reviews([reviewed], tags, ["security", "testing", "databases", "documentation"], tmp_path / "r.csv")
    with (tmp_path / "r.csv").open(encoding="utf-8") as file:
        verdicts = {row["label"]: (row["verdict"], row["source"]) for row in csv.DictReader(file)}
    assert signals == 4
    assert verdicts == {
        "security": ("accepted", "authors"),
        "testing": ("rejected", "authors"),
        "databases": ("corrected", "authors"),
        "documentation": ("rejected", "authors"),
    }
