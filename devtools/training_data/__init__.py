"""Builder of the training data that is made from public dictionaries and packages."""
