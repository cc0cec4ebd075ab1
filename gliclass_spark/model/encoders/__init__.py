"""Transformer encoders inside the architectures."""
