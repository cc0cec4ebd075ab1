"""Pipelines run from Python: one call, and a record that a notebook shows."""
