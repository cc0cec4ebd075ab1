"""Jobs around feedback: signals into the table `feedback`, and the snapshot that a retraining reads."""
