"""OpenLineage facets of a step: its tables with versions, and the digests of its model, labels and rules.

Imported only where Airflow's OpenLineage provider is installed.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from airflow.providers.openlineage.extractors import OperatorLineage
from attrs import define
from openlineage.client.event_v2 import Dataset
from openlineage.client.facet_v2 import RunFacet, dataset_version_dataset

from gliclass_spark.config.catalog import table_path
from gliclass_spark.config.paths import has_scheme
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.runs.manifest import Manifest, VersionRange


@define
class GliclassRunFacet(RunFacet):
    """The facet `gliclass` of a run."""

    run_id: str
    label_set: str
    label_set_hash: str
    rules_hash: str
    model: str
    model_digest: str | None


def lineage(pipeline: Pipeline, manifest: Manifest) -> OperatorLineage[Dataset, RunFacet]:
    """Return the lineage of a finished step."""
    facet = GliclassRunFacet(
        run_id=manifest.run_id,
        label_set=manifest.label_set,
        label_set_hash=manifest.label_set_hash,
        rules_hash=manifest.rules_hash,
        model=manifest.model,
        model_digest=manifest.model_digest,
    )
    return OperatorLineage(
        inputs=_datasets(pipeline, manifest.inputs),
        outputs=_datasets(pipeline, manifest.outputs),
        run_facets={"gliclass": facet},
    )


def _datasets(pipeline: Pipeline, tables: Mapping[str, VersionRange]) -> list[Dataset]:
    datasets = []
    for name, versions in tables.items():
        namespace, path = _name(pipeline, name)
        version = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=str(versions.until))
        datasets.append(Dataset(namespace, path, facets={"version": version} if versions.until is not None else {}))
    return datasets


def _name(pipeline: Pipeline, table: str) -> tuple[str, str]:
    """Return a table's namespace and name by OpenLineage's naming convention."""
    if table == "source" and pipeline.source.path is None:
        return "spark", str(pipeline.source.table)
    path = str(pipeline.source.path) if table == "source" else table_path(pipeline.tables, table)
    if not has_scheme(path):
        return "file", path
    parts = urlsplit(path)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else parts.scheme, parts.path.lstrip("/") or "/"
