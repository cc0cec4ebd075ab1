"""spark-submit jobs/filter.py PIPELINE.yaml: apply a pipeline's reject rules to its tags."""

import sys

from gliclass_spark.cli.app import main

if __name__ == "__main__":
    sys.exit(main(["filter", *sys.argv[1:]]))
