"""Speed and memory: the engine beside other libraries and models."""
