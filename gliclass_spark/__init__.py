"""Tag, filter and route the text of a data lake with GLiClass, a zero-shot classifier.

The public names are imported when they are first used: reading a pipeline's configuration needs
neither torch nor Spark.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gliclass_spark.inference.engine import Engine
    from gliclass_spark.labels import Example, Label, LabelSet
    from gliclass_spark.spark.transforms.nested_scores import nested_scores
    from gliclass_spark.spark.udf import gliclass_udf, register_gliclass

__version__ = "0.1.0"

__all__ = ["Engine", "Example", "Label", "LabelSet", "gliclass_udf", "nested_scores", "register_gliclass"]

# torch's threads wait for each other by counting, and sleep only after 300,000 rounds of it: where another process
# wants the same core, they count instead of working, and a training takes ten times as long. GNU's OpenMP reads this
# when torch is imported; a machine with nothing else to do is as fast with it.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")

_HOMES = {
    "Engine": "gliclass_spark.inference.engine",
    "Example": "gliclass_spark.labels",
    "Label": "gliclass_spark.labels",
    "LabelSet": "gliclass_spark.labels",
    "gliclass_udf": "gliclass_spark.spark.udf",
    "nested_scores": "gliclass_spark.spark.transforms.nested_scores",
    "register_gliclass": "gliclass_spark.spark.udf",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
