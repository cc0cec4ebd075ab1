"""Checks that run on an Airflow worker, without Spark and without torch."""
