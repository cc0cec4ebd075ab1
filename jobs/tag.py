"""spark-submit jobs/tag.py PIPELINE.yaml: score the new and changed documents of a pipeline."""

import sys

from gliclass_spark.cli.app import main

if __name__ == "__main__":
    sys.exit(main(["tag", *sys.argv[1:]]))
