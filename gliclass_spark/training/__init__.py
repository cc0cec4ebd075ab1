"""Training: labelled data, losses, supervised training, PPO, evaluation and calibration. No Spark."""
