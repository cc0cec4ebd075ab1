"""Layers between an encoder and the logits: pooling, projections, label vectors, scorers, calibrator."""
