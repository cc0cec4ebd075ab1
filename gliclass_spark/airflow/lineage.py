"""What OpenLineage is told of a step: the tables, at their versions, and the digests that its decisions rest on.

Only imported where Airflow's OpenLineage provider is installed: the provider asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

from airflow.providers.openlineage.extractors import OperatorLineage
from attrs import define
from openlineage.client.event_v2 import Dataset
from openlineage.client.facet_v2 import RunFacet, dataset_version_dataset

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


def lineage(pipeline: Pipeline, done: Manifest) -> OperatorLineage[Dataset, RunFacet]:
    """Of a step that is done."""
    facet = GliclassRunFacet(
        run_id=done.run_id,
        label_set=done.label_set,
        label_set_hash=done.label_set_hash,
        rules_hash=done.rules_hash,
        model=done.model,
        model_digest=done.model_digest,
    )
    return OperatorLineage(
        inputs=_datasets(pipeline, done.inputs),
        outputs=_datasets(pipeline, done.outputs),
        run_facets={"gliclass": facet},
    )


def _datasets(pipeline: Pipeline, tables: Mapping[str, VersionRange]) -> list[Dataset]:
    found = []
    for name, versions in tables.items():
        namespace, path = _name(pipeline, name)
        version = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=str(versions.until))
        found.append(Dataset(namespace, path, facets={"version": version} if versions.until is not None else {}))
    return found


def _name(pipeline: Pipeline, table: str) -> tuple[str, str]:
    """Namespace and name, as OpenLineage's naming convention has them."""
    if table == "source" and pipeline.source.path is None:
        return "spark", str(pipeline.source.table)
    address = str(pipeline.source.path) if table == "source" else f"{pipeline.tables.rstrip('/')}/{table}"
    if not has_scheme(address):
        return "file", address
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else parts.scheme, parts.path.lstrip("/") or "/"
