"""Correct first, then timed, then gated: rows, and the gate over saved ones."""
