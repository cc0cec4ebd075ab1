"""Checkpoints: from a model URI to verified local files. Loads no torch."""
