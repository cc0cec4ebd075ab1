"""Configuration: the YAML files that users write, validated before anything runs."""
