"""Checks of a shadow run on an Airflow worker: is there a challenger, and has it tagged?"""

from __future__ import annotations

from gliclass_spark.airflow.storage import storage_options
from gliclass_spark.checkpoints.registry import Registry
from gliclass_spark.config.model_uri import CHALLENGER, registered_model
from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.runs.history import last_shadow_sequence


def challenger_digest(file: str) -> str | None:
    """Return the digest of the challenger of the pipeline's model, None if it has none. Raises RegistryError."""
    name, _ = registered_model(Pipeline.from_yaml(file).model)
    versions = Registry().versions(name)
    return next((version.digest for version in versions if CHALLENGER in version.aliases), None)


def shadow_sequence(file: str, model_digest: str) -> int:
    """Return `last_shadow_sequence` of the pipeline in the file. Raises TableError."""
    pipeline = Pipeline.from_yaml(file)
    return last_shadow_sequence(pipeline, model_digest, storage_options(pipeline))
