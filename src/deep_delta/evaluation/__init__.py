"""Losses on held-out text, comparisons and counted FLOPs."""
