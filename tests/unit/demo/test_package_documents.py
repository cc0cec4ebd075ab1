"""Documents of the demo."""

from __future__ import annotations

from gliclass_spark.demo.package_documents import installed_packages


def test_every_installed_package_is_one_document_with_its_description() -> None:
    documents = {document.package: document for document in installed_packages()}
    assert len(documents) > 100
    assert list(documents) == sorted(documents)
    assert documents["pyspark"].description.startswith("Apache Spark Python API")
    assert "Testing" in " ".join(documents["pytest"].topics)


def test_long_descriptions_are_cut() -> None:
    """The demo tags all of them on a laptop within two minutes."""
    assert max(len(document.description) for document in installed_packages()) == 4000
