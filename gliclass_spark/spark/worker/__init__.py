"""Code that runs in an executor's Python worker, and the settings that the driver sends to it."""
