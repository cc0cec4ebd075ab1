"""Airflow operators: Spark jobs of a pipeline, and steps of a retraining."""
