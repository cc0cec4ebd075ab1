"""Storage options of the tables for Airflow's own processes, from an Airflow connection."""

from __future__ import annotations

from airflow.sdk import Connection

from gliclass_spark.config.pipeline import Pipeline
from gliclass_spark.errors import ConfigError
from gliclass_spark.runs.delta_reader import StorageOptions


def storage_options(pipeline: Pipeline) -> StorageOptions:
    """Return the extra of the connection `airflow.storage`, None if no connection is set.

    Raises ConfigError if the extra is empty.
    """
    if pipeline.airflow is None or pipeline.airflow.storage is None:
        return None
    name = pipeline.airflow.storage
    extra = Connection.get(name).extra_dejson
    if not extra:
        raise ConfigError(
            f"the connection {name!r} (airflow.storage) has no extra; write the storage options of delta-rs there, "
            "as JSON"
        )
    return {str(key): str(value) for key, value in extra.items()}
