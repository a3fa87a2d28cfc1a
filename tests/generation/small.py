"""A tokenizer of letters, and models small enough to look at every token."""

from __future__ import annotations

import torch

from deep_delta.models.transformer import DdlTransformer
from deep_delta.models.variants import variant_config

LONGEST = 12


class Letters:
    """A tokenizer of a…z, space and end of text; its stream is the plain concatenation."""

    ALPHABET = "abcdefghijklmnopqrstuvwxyz "
    vocab_size = len(ALPHABET) + 1
    end_of_text = len(ALPHABET)

    def encode(self, text):
        return [self.ALPHABET.index(letter) for letter in text]

    def stream(self):
        return self

    def push(self, token):
        return self.ALPHABET[token]

    def flush(self):
        return ""


class Endless(Letters):
    """Its end of text is beyond what may be drawn, so that the text has the length asked for."""

    vocab_size = len(Letters.ALPHABET)


def make_model(slug, **fields):
    torch.manual_seed(0)
    fields = {"d_model": 16, "num_layers": 2, "num_heads": 2, "vocab_size": 28, "max_seq_len": LONGEST, **fields}
    model = DdlTransformer(variant_config(slug, **fields)).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # away from the start, where logits are nearly uniform
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model
