"""python (or torchrun) jobs/retrain.py RETRAIN: retrain a pipeline's model. With --step snapshot: by spark-submit."""

import sys

from gliclass_spark.cli import main

if __name__ == "__main__":
    sys.exit(main(["retrain", *sys.argv[1:]]))
