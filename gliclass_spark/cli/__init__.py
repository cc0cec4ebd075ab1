"""The gliclass-spark command line."""
