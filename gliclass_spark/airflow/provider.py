"""What Airflow knows of the package as a provider."""

from __future__ import annotations

from typing import Any

_OPERATORS = "gliclass_spark.airflow.operators"


def get_provider_info() -> dict[str, Any]:
    """Return the description of the provider, as Airflow's schema of providers defines it."""
    return {
        "package-name": "gliclass-spark",
        "name": "GLiClass on Spark",
        "description": "Zero-shot text classification over Delta tables: tag, filter, route and retrain.",
        "integrations": [
            {
                "integration-name": "GLiClass on Spark",
                "external-doc-url": "https://arxiv.org/abs/2508.07662",
                "tags": ["software"],
            }
        ],
        "operators": [
            {"integration-name": "GLiClass on Spark", "python-modules": [f"{_OPERATORS}.pipeline_operators"]},
        ],
        "sensors": [
            {"integration-name": "GLiClass on Spark", "python-modules": [f"{_OPERATORS}.new_documents"]},
        ],
        "triggers": [
            {"integration-name": "GLiClass on Spark", "python-modules": [f"{_OPERATORS}.new_documents"]},
        ],
    }
