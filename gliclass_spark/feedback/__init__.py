"""Feedback on decisions: verdicts, how signals are joined, exploration with logged propensities. No Spark."""
