"""The GLiClass model: architectures, encoders, heads, prompts and checkpoints; torch, no Spark."""
