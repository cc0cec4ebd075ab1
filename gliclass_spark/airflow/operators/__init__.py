"""Operators that submit a pipeline step or run a training step, and wait for its outcome."""
