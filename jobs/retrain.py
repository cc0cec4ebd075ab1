"""python jobs/retrain.py RETRAIN.yaml: retrain a pipeline's model.

`--step snapshot` runs under spark-submit; `--step supervised` and `--step ppo` also under torchrun.
"""

import sys

from gliclass_spark.cli.app import main

if __name__ == "__main__":
    sys.exit(main(["retrain", *sys.argv[1:]]))
