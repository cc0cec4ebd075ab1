"""Evaluation: how good a model is, and beside which baselines."""
