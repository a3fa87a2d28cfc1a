"""The delta rule over time against other people's code: two independent derivations as oracles."""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from deep_delta.ops import chunk_delta_rule
from tests.tolerances import TOLERANCE, relative_error

NAMES = ("q", "k", "v", "beta")


def load(module: str) -> Any:
    """Import a peer, whose import may warn about what is missing on this machine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


@pytest.fixture(autouse=True)
def _peers_may_warn() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def flash_linear_attention(q: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """The recurrence of flash-linear-attention, in fp32: unit directions come from outside."""
    naive = load("fla.ops.delta_rule.naive")
    return naive.delta_rule_recurrence(*unit(q, k), v, beta)


def flash_linear_attention_chunks(q: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    naive = load("fla.ops.delta_rule.naive")
    return naive.delta_rule_chunkwise(*unit(q, k), v, beta, 16)


def qwen3_next(q: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> tuple[Tensor, Tensor]:
    """The gated delta rule of transformers, time before heads, with every gate open (g = 0)."""
    modeling = load("transformers.models.qwen3_next.modeling_qwen3_next")
    plain = inspect.unwrap(modeling.torch_chunk_gated_delta_rule)  # beneath what would send it to a kernel
    arguments = [x.transpose(1, 2) for x in (q, k, v)]
    gates = beta.transpose(1, 2)
    o, S = plain(
        *arguments, torch.zeros_like(gates), gates, use_qk_l2norm_in_kernel=True, output_final_state=True, chunk_size=16
    )
    return o.transpose(1, 2), S


def unit(*tensors: Tensor) -> list[Tensor]:
    return [torch.nn.functional.normalize(x, dim=-1) for x in tensors]


@pytest.mark.parametrize("peer", [flash_linear_attention, flash_linear_attention_chunks, qwen3_next])
@pytest.mark.parametrize("backend", ["chunk", "reference"])
def test_outputs_and_gradients_are_those_of_a_peer(backend: str, peer: Callable[..., tuple[Tensor, Tensor]]) -> None:
    torch.manual_seed(0)
    inputs = [torch.randn(2, 3, 80, 16), torch.randn(2, 3, 80, 16), torch.randn(2, 3, 80, 16), 2 * torch.rand(2, 3, 80)]
    upstream = torch.randn(2, 3, 80, 16), torch.randn(2, 3, 16, 16)
    found = []
    for run in (lambda *x: chunk_delta_rule(*x, 16, output_final_state=True, backend=backend), peer):
        leaves = [x.clone().requires_grad_() for x in inputs]
        outputs = run(*leaves)
        found.append((*outputs, *torch.autograd.grad(outputs, leaves, upstream)))
    for name, a, b in zip(("o", "S", *NAMES), *found, strict=True):
        assert relative_error(a, b) < 2 * TOLERANCE[torch.float32, backend], name  # both are in fp32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="flash-linear-attention's kernels need a CUDA device")
@pytest.mark.parametrize("packed", [False, True])
def test_the_kernels_of_flash_linear_attention_match_the_reference(packed: bool) -> None:
    pytest.importorskip("fla")
    torch.manual_seed(1)
    like = {"device": "cuda", "dtype": torch.bfloat16}
    q, k, v = (torch.randn(1, 2, 200, 64, **like) for _ in range(3))
    inputs = [q, k, v, torch.rand(1, 2, 200, **like), torch.randn(3 if packed else 1, 2, 64, 64, device="cuda")]
    cu_seqlens = torch.tensor([0, 30, 128, 200], device="cuda") if packed else None
    upstream = torch.randn(1, 2, 200, 64, device="cuda"), torch.randn_like(inputs[4])
    found = []
    for backend, dtype in (("fla", None), ("reference", torch.float64)):
        leaves = [x.detach().to(dtype or x.dtype).requires_grad_() for x in inputs]
        outputs = chunk_delta_rule(
            *leaves[:4], initial_state=leaves[4], output_final_state=True, cu_seqlens=cu_seqlens, backend=backend
        )
        grads = [grad.to(out.dtype) for grad, out in zip(upstream, outputs, strict=True)]
        found.append((*outputs, *torch.autograd.grad(outputs, leaves, grads)))
    for name, a, b in zip(("o", "S", *NAMES, "initial_state"), *found, strict=True):
        assert relative_error(a, b) < TOLERANCE[torch.bfloat16, "fla"], name


@pytest.mark.parametrize("size", [1.0, 1e-2, 1e-3, 0.0])
def test_epsilon_1e_3_is_their_1e_6_under_the_root(size: float) -> None:
    torch.manual_seed(7)
    q, k, v, beta = *(size * torch.randn(2, 1, 2, 20, 8)).unbind(0), torch.randn(1, 2, 20, 8), torch.rand(1, 2, 20)
    inputs = [x.requires_grad_() for x in (q, k, v, beta)]
    o, S = chunk_delta_rule(*inputs, output_final_state=True, eps=1e-3)
    expected_o, expected_S = qwen3_next(*inputs)
    upstream = torch.randn_like(o), torch.randn_like(S)
    found = torch.autograd.grad((o, S), inputs, upstream)
    expected = torch.autograd.grad((expected_o, expected_S), inputs, upstream)
    for a, b in zip((o, S, *found), (expected_o, expected_S, *expected), strict=True):
        assert relative_error(a, b) < 1e-5
