"""The reviews of the demo's decisions, and the golden set that nothing is trained on."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow.parquet as pq

from gliclass_spark.demo.package_documents import PackageDocument, installed_packages
from gliclass_spark.demo.package_reviews import authors_labels, write_golden, write_reviews
from gliclass_spark.labels import LabelSet

ROOT = Path(__file__).parents[3]
NAMES = LabelSet.from_yaml(ROOT / "conf" / "labels" / "software.yaml").names


def document(*topics: str, package: str = "lake") -> PackageDocument:
    return PackageDocument(package, "1", f"the words of {package}", list(topics))


def test_a_topic_holds_for_all_that_stands_below_it_and_for_nothing_beside_it() -> None:
    assert authors_labels(document("Scientific/Engineering :: Artificial Intelligence :: Vision")) == [
        "machine learning",
        "scientific computing",
    ]
    assert authors_labels(document("Internet :: WWW/HTTP", "Security")) == ["web development", "security"]
    assert authors_labels(document("Internet", "Securityish")) == []
    assert {label for each in installed_packages() for label in authors_labels(each)} <= set(NAMES)


def test_what_is_in_the_golden_set_is_never_reviewed(tmp_path: Path) -> None:
    documents = installed_packages()
    golden = write_golden(documents, tmp_path / "golden.parquet")
    tags = [{"doc_id": each.package, "labels": []} for each in documents]
    write_reviews(documents, tags, NAMES, tmp_path / "reviews.csv")
    with (tmp_path / "reviews.csv").open(encoding="utf-8") as file:
        reviewed = {row["doc_id"] for row in csv.DictReader(file)}
    judged = pq.read_table(tmp_path / "golden.parquet").to_pydict()
    assert len(judged["text"]) == golden > 10
    assert all(judged["labels"])
    of_reviewed = {each.description for each in documents if each.package in reviewed}
    assert reviewed
    assert not of_reviewed & set(judged["text"])


def test_a_review_says_of_every_label_whether_the_author_would_have_given_it(tmp_path: Path) -> None:
    # Of names one by one, the first that is not in the golden set.
    packages = (document("Security", "Database", package=f"lake-{number}") for number in range(99))
    reviewed = next(each for each in packages if not write_golden([each], tmp_path / "golden.parquet"))
    tags = [{"doc_id": reviewed.package, "labels": ["security", "testing"]}, {"doc_id": "unknown", "labels": ["x"]}]
    signals = write_reviews([reviewed], tags, ["security", "testing", "databases", "documentation"], tmp_path / "r.csv")
    with (tmp_path / "r.csv").open(encoding="utf-8") as file:
        said = {row["label"]: (row["verdict"], row["source"]) for row in csv.DictReader(file)}
    assert signals == 4
    assert said == {
        "security": ("accepted", "authors"),
        "testing": ("rejected", "authors"),
        "databases": ("corrected", "authors"),
        "documentation": ("rejected", "authors"),
    }
