"""Run manifests: the record of what each job did, and how to read it without Spark."""
