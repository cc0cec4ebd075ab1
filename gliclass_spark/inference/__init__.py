"""Texts in, scores out, fast: the engine."""
