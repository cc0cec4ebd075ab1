"""Feedback: what is learned from it, and how well a retraining is judged and announced by it."""
