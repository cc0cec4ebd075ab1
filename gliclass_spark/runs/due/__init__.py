"""Whether a retraining is due, by manifests and feedback alone: drift, rejected labels, labels that are never given."""
