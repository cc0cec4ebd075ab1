"""Makes a model better: labelled data, losses, the supervised trainer, evaluation."""
