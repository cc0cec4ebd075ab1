"""The pipelines under Airflow. Parsing a DAG imports neither pyspark nor torch; the jobs do, where Spark runs them."""
