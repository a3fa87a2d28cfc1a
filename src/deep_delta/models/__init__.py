"""Configurations, the six variants as data, and the one transformer."""
