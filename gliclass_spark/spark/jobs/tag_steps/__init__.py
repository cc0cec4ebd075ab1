"""The steps of the tag job: check, read, score, merge, verify."""
