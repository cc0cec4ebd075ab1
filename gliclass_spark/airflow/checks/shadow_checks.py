"""Checks of a shadow run on an Airflow worker: is there a challenger, and has it tagged?"""

from __future__ import annotations

from gliclass_spark.airflow.storage import storage_options
from gliclass_spark.checkpoints.registry import Registry
from gliclass_spark.config.model_uri import CHALLENGER, registered_model
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.runs.history import recent_manifests
from gliclass_spark.runs.manifest import SHADOW, SUCCEEDED


def challenger_digest(file: str) -> str | None:
    """Return the digest of the challenger of the pipeline's model, None if it has none. Raises RegistryError."""
    name, _ = registered_model(Pipeline.from_yaml(file).model)
    versions = Registry().versions(name)
    return next((version.digest for version in versions if CHALLENGER in version.aliases), None)


def last_shadow_sequence(file: str, model_digest: str) -> int:
    """Return the sequence number of the model's last successful shadow run, 0 without one. Raises TableError."""
    pipeline = Pipeline.from_yaml(file)
    rows = recent_manifests(pipeline, storage_options(pipeline))
    of_model = (SHADOW, SUCCEEDED, model_digest)
    return max((row.sequence for row in rows if (row.job, row.status, row.model_digest) == of_model), default=0)
