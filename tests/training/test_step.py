from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from deep_delta.data.batches import IGNORED, TrainingData
from deep_delta.data.opening import open_data
from deep_delta.errors import DataError, NumericsError
from deep_delta.models.transformer import DdlTransformer
from deep_delta.training.config import TrainingConfig
from deep_delta.training.optimizer import build_optimizer
from deep_delta.training.step import Loss, StepResult, take_step
from tests.training.tiny import tiny_config, tiny_training

TOKENS = np.random.default_rng(0).integers(257, size=(6, 2, 17))


def pairs(tokens: np.ndarray = TOKENS) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return iter([(batch[:, :-1].copy(), batch[:, 1:].copy()) for batch in tokens])


def build(training: TrainingConfig) -> tuple[DdlTransformer, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = DdlTransformer(tiny_config())
    return model, build_optimizer(model, training)


def weights(model: DdlTransformer) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def stepped(tokens: np.ndarray = TOKENS, **fields: Any) -> tuple[DdlTransformer, StepResult]:
    training = tiny_training(**fields)
    model, optimizer = build(training)
    return model, take_step(model.loss, optimizer, pairs(tokens), 0, training)


def test_accumulated_batches_are_one_large_batch():
    accumulated, one = stepped(accumulation_steps=3)
    at_once, other = stepped(TOKENS[:3].reshape(1, 6, 17))
    assert (weights(accumulated) - weights(at_once)).abs().max() < 1e-6
    assert one.loss == pytest.approx(other.loss, rel=1e-6)
    assert one.grad_norm == pytest.approx(other.grad_norm, rel=1e-5)
    assert one.tokens == other.tokens == 6 * 16


def test_the_result_is_the_loss_before_the_update():
    training = tiny_training()
    model, optimizer = build(training)
    ids, targets = next(pairs())
    before = model.loss(torch.from_numpy(ids), torch.from_numpy(targets)).item()
    result = take_step(model.loss, optimizer, pairs(), 0, training)
    assert result.loss == pytest.approx(before, rel=1e-6)
    assert model.loss(torch.from_numpy(ids), torch.from_numpy(targets)).item() < before


def test_clipping_scales_the_whole_gradient():
    model, result = stepped(grad_clip=1e-3)
    norm = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm().item()
    assert result.grad_norm > 1e-2
    assert norm == pytest.approx(1e-3, rel=1e-3)


def test_without_clipping_the_gradient_stays():
    model, result = stepped(grad_clip=0.0)
    norm = torch.cat([parameter.grad.flatten() for parameter in model.parameters()]).norm().item()
    assert norm == pytest.approx(result.grad_norm, rel=1e-5)


def test_the_rate_is_the_schedule_s():
    training = tiny_training(max_steps=10, warmup_steps=4, learning_rate=0.4)
    model, optimizer = build(training)
    batches = pairs()
    rates = [take_step(model.loss, optimizer, batches, step, training).learning_rate for step in range(4)]
    assert rates == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert {group["lr"] for group in optimizer.param_groups} == {rates[-1]}


def test_bf16_computes_in_bf16_and_keeps_fp32():
    seen = []
    training = tiny_training(precision="bf16")
    model, optimizer = build(training)

    def loss_of(ids: Tensor, targets: Tensor) -> Tensor:
        seen.append(model(ids).dtype)
        return model.loss(ids, targets)

    result = take_step(loss_of, optimizer, pairs(), 0, training)
    assert seen == [torch.bfloat16]
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert {moment.dtype for state in optimizer.state.values() for moment in state.values()} == {torch.float32}
    assert result.loss == pytest.approx(stepped()[1].loss, rel=1e-2)


def poison(model: DdlTransformer, at: int, value: float, *, gradient_only: bool) -> Loss:
    """The model's loss, which on call number `at` is `value`; or is as it was with a gradient that is not."""
    calls = iter(range(100))

    def loss_of(ids: Tensor, targets: Tensor) -> Tensor:
        loss = model.loss(ids, targets)
        if next(calls) != at:
            return loss
        if not gradient_only:
            return loss * value
        loss.register_hook(lambda gradient: gradient * value)
        return loss

    return loss_of


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")], ids=str)
@pytest.mark.parametrize("gradient_only", [False, True], ids=["loss", "gradient"])
def test_what_is_not_finite_updates_nothing_and_names_step_and_batch(value: float, gradient_only: bool):
    training = tiny_training(accumulation_steps=2)
    model, optimizer = build(training)
    batches = pairs()
    take_step(model.loss, optimizer, batches, 0, training)
    weights_before = weights(model)
    moments_before = [moment.clone() for state in optimizer.state.values() for moment in state.values()]
    message = (
        "gradient's norm is .* at step 8, batches 14 to 15;" if gradient_only else "loss is .* at step 8, batch 15;"
    )
    with pytest.raises(NumericsError, match=message):
        take_step(poison(model, 1, value, gradient_only=gradient_only), optimizer, batches, 7, training)
    assert torch.equal(weights(model), weights_before)
    moments = [moment for state in optimizer.state.values() for moment in state.values()]
    assert all(map(torch.equal, moments, moments_before))


def gradients(data: TrainingData, batch_size: int, vocab_size: int) -> tuple[Tensor, StepResult]:
    """Of one step on the first eight examples, in micro-batches of this size."""
    training = tiny_training(batch_size=batch_size, accumulation_steps=8 // batch_size, grad_clip=0.0, seq_len=66)
    torch.manual_seed(0)
    model = DdlTransformer(tiny_config(vocab_size=vocab_size, max_seq_len=128))
    batches = data.training_batches(batch_size=batch_size, seq_len=training.seq_len, seed=0).prefetch()
    result = take_step(model.loss, build_optimizer(model, training), batches, 0, training)
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters()]), result


@pytest.mark.parametrize("spec", ["synth:copying", "synth:parity", "synth:recall:pairs=2-16", "text"])
def test_a_step_does_not_depend_on_how_its_examples_are_cut_into_batches(spec: str, text_file: Path):
    data = open_data(str(text_file) if spec == "text" else spec)
    at_once, one = gradients(data, 8, data.tokenizer.vocab_size)
    for batch_size in (1, 2, 4):
        cut, other = gradients(data, batch_size, data.tokenizer.vocab_size)
        assert (cut - at_once).abs().max() < 1e-6 * max(1.0, at_once.abs().max().item())
        assert other.loss == pytest.approx(one.loss, rel=1e-6)
        assert other.grad_norm == pytest.approx(one.grad_norm, rel=1e-5)
        assert other.tokens == one.tokens


def without_targets(tokens: np.ndarray, *empty: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    return (
        (ids, np.full_like(targets, IGNORED) if number in empty else targets)
        for number, (ids, targets) in enumerate(pairs(tokens))
    )


@pytest.mark.parametrize("empty", [0, 1, 2])
def test_a_batch_without_targets_adds_nothing(empty: int):
    training = tiny_training(accumulation_steps=3)
    model, optimizer = build(training)
    result = take_step(model.loss, optimizer, without_targets(TOKENS, empty), 0, training)
    others = np.delete(TOKENS[:3], empty, axis=0)
    expected, other = stepped(others, accumulation_steps=2)
    assert (weights(model) - weights(expected)).abs().max() < 1e-6
    assert (result.loss, result.tokens) == (pytest.approx(other.loss, rel=1e-6), other.tokens)


def test_a_step_without_any_target_is_refused_and_changes_nothing():
    training = tiny_training(accumulation_steps=2)
    model, optimizer = build(training)
    before = weights(model)
    with pytest.raises(DataError, match="nothing to learn at step 4: its batches have no target"):
        take_step(model.loss, optimizer, without_targets(TOKENS, 0, 1), 3, training)
    assert torch.equal(weights(model), before)
    assert not optimizer.state
