"""How Airflow's own processes get at the tables: by an Airflow connection, never by a file."""

from __future__ import annotations

from airflow.sdk import Connection

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.errors import ConfigError
from gliclass_spark.runs.delta_reader import StorageOptions


def storage_options(pipeline: Pipeline) -> StorageOptions:
    """What the connection `airflow.storage` holds; None without one. Raises ConfigError if it holds nothing."""
    if pipeline.airflow is None or pipeline.airflow.storage is None:
        return None
    name = pipeline.airflow.storage
    extra = Connection.get(name).extra_dejson
    if not extra:
        raise ConfigError(
            f"the connection {name!r} (airflow.storage) has no extra; write there, as JSON, what delta-rs needs to "
            "know to read the tables"
        )
    return {str(key): str(value) for key, value in extra.items()}
