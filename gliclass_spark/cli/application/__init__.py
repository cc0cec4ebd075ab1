"""The Spark application: a folder of its own, because spark-submit makes it the first entry of `sys.path`."""
