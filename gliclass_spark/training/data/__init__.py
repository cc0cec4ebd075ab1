"""Training data: labelled text, logged decisions, and the batches drawn from them."""
