"""Feedback on decisions: verdicts, and exploration with logged propensities. Plain Python, no Spark."""
