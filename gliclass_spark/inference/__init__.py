"""Inference: texts in, scores out, by one engine."""
