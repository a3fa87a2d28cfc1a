"""What is on disk: layout, events, manifests and checkpoint files. Imports no torch."""
