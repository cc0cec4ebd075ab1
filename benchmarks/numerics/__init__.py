"""Numerical precision: how far scores and logits differ by precision and implementation."""
