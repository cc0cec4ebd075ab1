"""The process that Python workers are forked from, with torch and the engine imported already.

Spark ends a worker that had nothing to do for a minute. The imports take ten seconds on a slow processor, in
each worker; forked from here, they share them, and a new worker is ready at once.
"""

from __future__ import annotations

import gc
import os

MODULE = "gliclass_spark.spark.worker.daemon"

if __name__ == "__main__":
    # To count GPUs must not start CUDA here: it can't be used behind a fork then.
    os.environ.setdefault("PYTORCH_NVML_BASED_CUDA_CHECK", "1")

    from pyspark.daemon import manager

    import gliclass_spark.spark.worker.scoring  # noqa: F401
    from gliclass_spark.spark.worker.late_imports import share_with_workers

    # A worker collects garbage behind each task: what was imported is none, and need not be looked through.
    gc.freeze()
    share_with_workers()
    manager()
