"""Airflow DAGs, operators and checks of the pipelines. Parsing a DAG imports neither pyspark nor torch."""
