"""What the gates learned: regimes, per-layer measures and their collector."""
