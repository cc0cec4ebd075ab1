"""python jobs/retrain.py RETRAIN: retrain a pipeline's model.

With --step snapshot: by spark-submit. With --step supervised, or ppo: by torchrun too.
"""

import sys

from gliclass_spark.cli.app import main

if __name__ == "__main__":
    sys.exit(main(["retrain", *sys.argv[1:]]))
