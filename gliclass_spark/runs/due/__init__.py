"""Whether a retraining is due, and has enough feedback, by manifests and feedback alone, without Spark and models."""
