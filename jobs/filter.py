"""spark-submit jobs/filter.py PIPELINE: decide which tagged documents are kept."""

import sys

from gliclass_spark.cli.app import main

if __name__ == "__main__":
    sys.exit(main(["filter", *sys.argv[1:]]))
