"""DAGs of pipeline and retraining files."""
