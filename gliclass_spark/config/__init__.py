"""The YAML files that users write, checked before anything runs."""
