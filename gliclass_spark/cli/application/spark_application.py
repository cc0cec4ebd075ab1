"""spark-submit spark_application.py COMMAND ...: a command of gliclass-spark in the driver that spark-submit starts."""

import sys

from gliclass_spark.cli.app import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
