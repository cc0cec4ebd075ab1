"""Model runners: how the engine runs each architecture on a batch."""
