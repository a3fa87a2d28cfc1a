"""From text to batches: corpus → documents → tokens on disk → windows. Imports no torch."""
