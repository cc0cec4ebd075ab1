"""Model versions and their aliases, in MLflow: which model is the champion, and how to go back to the one before."""

from gliclass_spark.checkpoints.registry.tracking import Tracked
from gliclass_spark.checkpoints.registry.versions import Registry, Version

__all__ = ["Registry", "Tracked", "Version"]
