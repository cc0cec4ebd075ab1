"""The model registry in MLflow: versions of models, their aliases, and the runs that produced them."""

from gliclass_spark.checkpoints.registry.tracking import TrackedRun
from gliclass_spark.checkpoints.registry.versions import ModelVersion, Registry

__all__ = ["ModelVersion", "Registry", "TrackedRun"]
