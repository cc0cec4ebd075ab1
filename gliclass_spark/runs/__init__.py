"""Run manifests: the record of each job of a run, read without Spark."""
