"""Builder of training data from public dictionaries and package descriptions."""
