"""A small model, its tokenizer, and an examinee made of them."""

from __future__ import annotations

import pytest
import torch

from deep_delta.data.language.text import LanguageText, training_sentences
from deep_delta.data.tokenizer import train_bpe
from deep_delta.evaluation.seeds import Trained
from deep_delta.evaluation.suites.examinee import Examinee
from deep_delta.models.transformer import DdlTransformer
from deep_delta.models.variants import variant_config
from deep_delta.runs.manifest import DataIdentity
from deep_delta.runs.suites import ScoredModel

SENTENCES = 3000


@pytest.fixture(scope="session")
def words():
    """A tokenizer under which most words are one token."""
    return train_bpe(iter(["\n".join(training_sentences(SENTENCES))]), 1024)


def model_of(tokenizer, seed=0):
    torch.manual_seed(seed)
    sizes = {"d_model": 16, "num_layers": 1, "num_heads": 2, "vocab_size": tokenizer.vocab_size, "max_seq_len": 64}
    return DdlTransformer(variant_config("ddl-cc", **sizes))


@pytest.fixture(scope="session")
def identity():
    from deep_delta.data.corpus import Corpus

    text = LanguageText(SENTENCES)
    return DataIdentity(name=text.name, sha256=Corpus(text).sha256, tokenizer="bpe", tokenizer_sha256="0" * 64)


@pytest.fixture
def examinee(words, identity):
    def make(name="ddl-cc", seed=0, variant="ddl-cc", **about):
        model = model_of(words, seed)
        scored = ScoredModel(name=name, path=name, variant=variant, seed=seed, step=1, data=identity)
        scored = scored.model_copy(update=about) if about else scored
        trained = Trained(name, scored.variant, scored.seed, scored.step, scored.data, {}, {})
        return Examinee(scored, words, lambda: model, trained=trained)

    return make
