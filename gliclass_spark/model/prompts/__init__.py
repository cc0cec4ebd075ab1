"""Prompts: token ids of texts and labels, for each architecture."""
