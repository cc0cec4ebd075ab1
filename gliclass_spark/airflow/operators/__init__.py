"""Airflow operators: the jobs of a pipeline, the steps of a retraining, and a sensor for new documents.

A public name is imported on first use: process groups need no Airflow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gliclass_spark.airflow.operators.new_documents import NewDocumentsSensor
    from gliclass_spark.airflow.operators.pipeline_operators import (
        FilterOperator,
        GLiClassTagOperator,
        RetrainOperator,
        RouteOperator,
    )

__all__ = ["FilterOperator", "GLiClassTagOperator", "NewDocumentsSensor", "RetrainOperator", "RouteOperator"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "new_documents" if name == "NewDocumentsSensor" else "pipeline_operators"
    return getattr(import_module(f"{__name__}.{module}"), name)
