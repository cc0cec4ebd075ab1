"""Kernels: model layers rewritten for speed, with the same outputs."""
