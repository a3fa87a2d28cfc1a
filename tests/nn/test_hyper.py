"""The stream of hyper-connections, alone and against other people's code."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deep_delta.nn.compress import ChannelSum
from deep_delta.nn.hyper import HyperOutput, HyperStream
from deep_delta.nn.norm import RMSNorm
from deep_delta.nn.residual import Boundary, Rewrite
from tests.tolerances import relative_error

D = 16


@pytest.fixture
def peer() -> Iterator[Any]:
    """The package hyper-connections, whose import may warn about what is missing on this machine."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield importlib.import_module("hyper_connections").HyperConnections


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def streams(num_streams: int, depth: int, *, norm_eps: float = 1e-5) -> nn.ModuleList:
    """The streams of `depth` sublayers, with coefficients that depend on the token."""
    made = nn.ModuleList(HyperStream(D, num_streams, index, norm_eps=norm_eps) for index in range(depth)).double()
    for seed, stream in enumerate(made):
        stream.dynamic.weight.data = draw(num_streams + 2, D, seed=seed)
        stream.static.data += 0.3 * draw(num_streams, num_streams + 2, seed=seed)
        stream.scale.data = torch.tensor([0.4, 0.7], dtype=torch.float64)
    return made


def process(x: Tensor, weight: Tensor) -> Tensor:
    """A sublayer: it mixes tokens and features."""
    return torch.tanh(x @ weight).cumsum(1)


def run(made: nn.ModuleList, state: Tensor, weights: Tensor) -> Tensor:
    """Through every sublayer, and out."""
    norm, rewrite = RMSNorm(D).double(), None
    for stream, weight in zip(made, weights, strict=True):
        assert isinstance(stream, HyperStream)
        state, reading = stream(state, rewrite, Boundary(None, norm))
        assert torch.equal(reading.c, norm(reading.x))
        rewrite = stream.propose(reading, process(reading.x, weight))
        assert rewrite.beta is None
    return HyperOutput()(state, rewrite, Boundary(ChannelSum(), norm))[1].x


@pytest.mark.parametrize("num_streams", [1, 2, 4])
def test_the_peer_computes_the_same_and_the_same_gradients(num_streams: int, peer: Callable[..., Any]) -> None:
    depth = 5
    made, weights = streams(num_streams, depth, norm_eps=0.0), draw(depth, D, D, seed=7)
    embedded = draw(3, 6, D, seed=8)
    theirs = []
    for index, stream in enumerate(made):
        other = peer(num_streams, dim=D, layer_index=index).double()
        for ours, start in ((stream.static[:, :-1], other.static_alpha), (stream.static[:, -1], other.static_beta)):
            assert ours.shape == start.shape
            start.data = ours.detach().clone()
        gamma = 0.5 * draw(D, seed=20 + index)  # the norm's weight, which ours has absorbed
        other.norm.gamma.data = gamma
        other.dynamic_alpha_fn.data = stream.dynamic.weight.detach()[:-1].T / (1 + gamma).unsqueeze(1)
        other.dynamic_beta_fn.data = stream.dynamic.weight.detach()[-1] / (1 + gamma)
        other.dynamic_alpha_scale.data, other.dynamic_beta_scale.data = stream.scale.detach().clone()
        theirs.append(other)

    ours_in, theirs_in = embedded.clone().requires_grad_(), embedded.clone().requires_grad_()
    out = run(made, ours_in.unsqueeze(2).expand(-1, -1, num_streams, -1), weights)
    expand, reduce = peer.get_expand_reduce_stream_functions(num_streams)
    state = expand(theirs_in)
    for other, weight in zip(theirs, weights, strict=True):
        x, add = other(state)
        state = add(process(x, weight))
    expected = reduce(state)
    assert relative_error(out, expected) < 1e-12

    upstream = draw(*out.shape, seed=9)
    out.backward(upstream)
    expected.backward(upstream)
    assert relative_error(ours_in.grad, theirs_in.grad) < 1e-12
    for stream, other in zip(made, theirs, strict=True):
        unabsorbed = 1 + other.norm.gamma
        alpha, beta = other.dynamic_alpha_fn.grad.T / unabsorbed, other.dynamic_beta_fn.grad / unabsorbed
        assert relative_error(stream.dynamic.weight.grad, torch.cat((alpha, beta.unsqueeze(0)))) < 1e-11
        static = torch.cat((other.static_alpha.grad, other.static_beta.grad.unsqueeze(1)), dim=1)
        assert relative_error(stream.static.grad, static) < 1e-11
        scale = torch.stack((other.dynamic_alpha_scale.grad, other.dynamic_beta_scale.grad))
        assert relative_error(stream.scale.grad, scale) < 1e-11


@pytest.mark.parametrize("num_streams", [1, 3, 4])
def test_the_start_is_the_peers(num_streams: int, peer: Callable[..., Any]) -> None:
    for index in range(6):
        stream, other = HyperStream(D, num_streams, index), peer(num_streams, dim=D, layer_index=index)
        assert torch.equal(stream.static[:, :-1], other.static_alpha)
        assert torch.equal(stream.static[:, -1], other.static_beta)
        assert torch.equal(stream.scale, torch.stack((other.dynamic_alpha_scale, other.dynamic_beta_scale)))
        assert not stream.dynamic.weight.any()
        assert not other.dynamic_alpha_fn.any()
        assert not other.dynamic_beta_fn.any()


def test_at_the_start_streams_are_only_added_to_and_one_of_them_is_read() -> None:
    stream, norm = HyperStream(D, 3, index=4).double(), RMSNorm(D).double()
    state, h = draw(2, 5, 3, D), draw(2, 5, D, seed=1)
    mixed, reading = stream(state, None, Boundary(None, norm))
    assert torch.equal(mixed, state)
    assert torch.equal(reading.x, state[:, :, 1])
    assert torch.equal(stream.write(mixed, stream.propose(reading, h)), state + h.unsqueeze(2))


def test_writing_needs_no_parameters_of_the_stream_that_writes() -> None:
    first, other = streams(3, 2)
    rewrite = Rewrite(draw(2, 5, D, seed=1), draw(2, 5, 3, seed=2))
    state = draw(2, 5, 3, D)
    expected = state + torch.einsum("btv,btd->btvd", rewrite.value, rewrite.direction)
    assert torch.equal(first.write(state, rewrite), other.write(state, rewrite))
    assert relative_error(first.write(state, rewrite), expected) < 1e-15
    assert first.write(state.bfloat16(), rewrite).dtype == torch.bfloat16


def test_the_streams_end_in_their_sum_which_has_nothing_to_save() -> None:
    readout, state = ChannelSum(), draw(2, 5, 3, D)
    assert readout.state_dict() == {}
    assert relative_error(readout(state), state[:, :, 0] + state[:, :, 1] + state[:, :, 2]) < 1e-15
