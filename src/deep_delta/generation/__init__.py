"""Cached decoding and sampling."""
