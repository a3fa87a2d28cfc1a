"""From text to batches: corpora, tokenizers and a loader whose order is a function of (seed, step)."""
