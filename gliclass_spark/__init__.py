"""GLiClass, a zero-shot classifier, over Delta tables on Spark: tag, filter and route the text of a data lake.

A public name is imported on first use: reading a pipeline's configuration needs neither torch nor Spark.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gliclass_spark.config.pipeline import Pipeline
    from gliclass_spark.inference.engine import Engine
    from gliclass_spark.interactive.run_pipeline import run
    from gliclass_spark.interactive.run_record import RunRecord
    from gliclass_spark.labels import Example, Label, LabelSet
    from gliclass_spark.spark.transforms.nested_scores import nested_scores
    from gliclass_spark.spark.udf import gliclass_udf, register_gliclass

__version__ = "0.1.0"

__all__ = [
    "Engine",
    "Example",
    "Label",
    "LabelSet",
    "Pipeline",
    "RunRecord",
    "gliclass_udf",
    "nested_scores",
    "register_gliclass",
    "run",
]

_MODULES = {
    "Engine": "gliclass_spark.inference.engine",
    "Example": "gliclass_spark.labels",
    "Label": "gliclass_spark.labels",
    "LabelSet": "gliclass_spark.labels",
    "Pipeline": "gliclass_spark.config.pipeline",
    "RunRecord": "gliclass_spark.interactive.run_record",
    "gliclass_udf": "gliclass_spark.spark.udf",
    "nested_scores": "gliclass_spark.spark.transforms.nested_scores",
    "register_gliclass": "gliclass_spark.spark.udf",
    "run": "gliclass_spark.interactive.run_pipeline",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
