"""Checks that Airflow workers run without Spark: what a run would read, and whether its manifest adds up."""
