"""DAGs built from pipeline and retraining files."""
