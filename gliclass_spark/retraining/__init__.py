"""Retraining: its data, its steps, the gate and promotion. No Spark."""
