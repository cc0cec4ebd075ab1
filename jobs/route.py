"""spark-submit jobs/route.py PIPELINE.yaml: write the kept documents to the tables of their routes."""

import sys

from gliclass_spark.cli.app import main

if __name__ == "__main__":
    sys.exit(main(["route", *sys.argv[1:]]))
