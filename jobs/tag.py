"""spark-submit jobs/tag.py PIPELINE: tag the new documents of a pipeline."""

import sys

from gliclass_spark.cli.app import main

if __name__ == "__main__":
    sys.exit(main(["tag", *sys.argv[1:]]))
