"""Documents and reviews of `make demo` and `make retrain-demo`."""
