"""Retraining: the steps, the gate and promotion. No Spark."""
