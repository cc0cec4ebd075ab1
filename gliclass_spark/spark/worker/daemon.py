"""Spark's Python worker daemon, which has torch and the engine imported before it forks workers.

Spark ends a worker that was idle for a minute. The imports take ten seconds on a slow processor; workers forked from
this process share them and start at once.
"""

from __future__ import annotations

import gc
import os

MODULE = "gliclass_spark.spark.worker.daemon"

if __name__ == "__main__":
    from gliclass_spark.inference.openmp import limit_spinning

    limit_spinning()
    # Count GPUs without initialising CUDA, which can't be used after a fork.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

    from pyspark.daemon import manager

    import gliclass_spark.spark.worker.scoring  # noqa: F401
    from gliclass_spark.spark.worker.late_imports import import_before_forks

    # A worker collects garbage after each task: keep it from scanning what was imported.
    gc.freeze()
    import_before_forks()
    manager()
