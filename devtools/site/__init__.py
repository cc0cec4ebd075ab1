"""Builders of the documentation site: command, configuration and benchmark pages."""
