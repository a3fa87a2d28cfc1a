from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from deep_delta.errors import DataError, NumericsError
from deep_delta.evaluation.language_model import IGNORED, Batch, LanguageModelScore, evaluate
from deep_delta.models.transformer import DdlTransformer
from deep_delta.models.variants import variant_config

RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def model() -> DdlTransformer:
    torch.manual_seed(0)
    return DdlTransformer(variant_config("ddl-cc", d_model=16, num_layers=1, num_heads=2, vocab_size=20, max_seq_len=8))


def batch(rows: int, ignored: int = 0) -> Batch:
    ids, targets = RANDOM.integers(20, size=(2, rows, 8))
    targets.reshape(-1)[:ignored] = IGNORED
    return Batch(ids, targets, num_bytes=2 * (rows * 8 - ignored))


def test_the_score_is_the_mean_over_all_tokens_of_unequal_batches(model: DdlTransformer):
    batches = [batch(4), batch(1), batch(2, ignored=5)]
    score = evaluate(model, batches)
    with torch.no_grad():
        losses = [
            F.cross_entropy(
                model(torch.from_numpy(one.ids)).flatten(0, 1),
                torch.from_numpy(one.targets).flatten(),
                reduction="none",
            )
            for one in batches
        ]
    total, tokens = torch.cat(losses).double().sum().item(), 7 * 8 - 5
    assert (score.tokens, score.num_bytes) == (tokens, 2 * tokens)
    assert score.loss == pytest.approx(total / tokens, rel=1e-6)
    assert score.perplexity == pytest.approx(math.exp(score.loss))
    assert score.bits_per_byte == pytest.approx(total / math.log(2) / (2 * tokens), rel=1e-6)


def test_a_uniform_model_has_the_entropy_of_its_vocabulary():
    config = variant_config("baseline", d_model=16, num_layers=1, num_heads=2, vocab_size=256, max_seq_len=8)
    model = DdlTransformer(config)
    with torch.no_grad():
        model.embedding.weight.zero_()
    ids = RANDOM.integers(256, size=(2, 8))
    score = evaluate(model, [Batch(ids, ids, num_bytes=ids.size)])
    assert score.bits_per_byte == pytest.approx(8.0, rel=1e-6)
    assert score.perplexity == pytest.approx(256.0, rel=1e-5)


def test_a_batch_without_targets_costs_nothing(model: DdlTransformer):
    one, nothing = batch(2), Batch(np.zeros((1, 8), int), np.full((1, 8), IGNORED), num_bytes=3)
    found, alone = evaluate(model, [one, nothing]), evaluate(model, [one])
    assert (found.loss, found.tokens) == (alone.loss, alone.tokens)
    assert found.num_bytes == alone.num_bytes + 3


@pytest.mark.parametrize("training", [True, False])
def test_the_mode_comes_back_and_nothing_is_remembered(model: DdlTransformer, training: bool):
    model.train(training)
    model.blocks[0].train(not training)
    generator = torch.get_rng_state()
    evaluate(model, [batch(2)])
    assert (model.training, model.blocks[0].training) == (training, not training)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert torch.equal(torch.get_rng_state(), generator)


def test_bf16_is_close(model: DdlTransformer):
    one = batch(8)
    half, single = evaluate(model, [one], precision="bf16"), evaluate(model, [one])
    assert half.loss != single.loss
    assert half.loss == pytest.approx(single.loss, rel=1e-2)


@pytest.mark.parametrize("batches", [[], [Batch(np.zeros((1, 8), int), np.zeros((1, 8), int), num_bytes=0)]])
def test_nothing_to_evaluate_is_an_error(model: DdlTransformer, batches: list[Batch]):
    with pytest.raises(DataError, match="nothing to evaluate"):
        evaluate(model, batches)


def test_a_loss_that_is_not_finite_is_an_error_and_names_the_batch(model: DdlTransformer):
    broken = DdlTransformer(model.config)
    with torch.no_grad():
        broken.norm.weight.fill_(float("nan"))
    with pytest.raises(NumericsError, match="evaluation batch 0 is nan"):
        evaluate(broken, [batch(1)])


def test_a_perplexity_beyond_the_floats_is_infinite():
    assert LanguageModelScore(loss=1000.0, bits_per_byte=1.0, tokens=1, num_bytes=1).perplexity == math.inf
