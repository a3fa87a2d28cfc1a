"""The residual stream's kinds, and how they read and expand the state."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from deep_delta.nn.branches import ConstantValue, GateHead, ValueHead
from deep_delta.nn.compress import ChannelConv, FactoredChannelConv, SingleChannel, TokenConv
from deep_delta.nn.expand import EmbedConv, Repeat
from deep_delta.nn.residual import AdditiveStream, DeltaStream, Reading, Rewrite, WriteOnlyStream
from deep_delta.ops import delta_update, normalize_direction

STATE = torch.randn(2, 5, 3, 8, generator=torch.Generator().manual_seed(0))  # [B, T, V, D]
X, C, H = torch.randn(3, 2, 5, 8, generator=torch.Generator().manual_seed(1))


def test_kinds_write_their_equation() -> None:
    rewrite = Rewrite(H, torch.randn(2, 5, 3), torch.rand(2, 5, 1))
    stream = DeltaStream(GateHead(8), ValueHead(8, 3))
    expected = delta_update(STATE.mT, rewrite.direction, rewrite.value, rewrite.beta, backend="reference").mT
    assert torch.allclose(stream.write(STATE, rewrite), expected, atol=1e-6)
    written = torch.einsum("bt,btv,btd->btvd", rewrite.beta.squeeze(-1), rewrite.value, normalize_direction(H))
    assert torch.allclose(
        WriteOnlyStream(GateHead(8), ValueHead(8, 3)).write(STATE, rewrite), STATE + written, atol=1e-6
    )
    single = STATE[:, :, :1]
    assert torch.equal(AdditiveStream().write(single, Rewrite(H)), single + H.unsqueeze(2))


def test_the_state_stays_channel_major() -> None:
    stream = DeltaStream(GateHead(8), ValueHead(8, 3))
    assert stream.write(STATE, Rewrite(H, torch.randn(2, 5, 3), torch.rand(2, 5, 1))).is_contiguous()


@pytest.mark.parametrize(("source", "tensor"), [("context", C), ("state", X), ("branch", H)])
def test_value_sources(source: str, tensor: torch.Tensor) -> None:
    value = ValueHead(8, 3)
    rewrite = DeltaStream(GateHead(8), value, value_source=source).propose(Reading(X, C), H)
    assert torch.equal(rewrite.value, value(tensor))
    assert rewrite.direction is H


def test_v_map_takes_the_value_from_the_branch_and_the_direction_from_the_context() -> None:
    value, key = ValueHead(8, 3), nn.Linear(8, 8, bias=False)
    rewrite = DeltaStream(GateHead(8), value, key=key).propose(Reading(X, C), H)
    assert torch.equal(rewrite.value, value(H))
    assert torch.equal(rewrite.direction, key(C))


@pytest.mark.parametrize("hidden", [None, 6])
def test_the_gate_starts_at_its_bias_and_stays_fp32(hidden: int | None) -> None:
    gate = GateHead(8, beta_init=0.7, hidden=hidden)
    assert torch.allclose(gate(torch.zeros(4, 8)), torch.full((4, 1), 0.7))
    with torch.autocast("cpu", torch.bfloat16):
        assert gate(C.bfloat16()).dtype == torch.float32


def test_bounded_and_constant_values() -> None:
    value = ValueHead(8, 3, bias=True, scale=4.0)
    assert torch.allclose(value(C), 4 * torch.sigmoid(value.proj(C)))
    assert torch.equal(ConstantValue(3, 2.0)(C), torch.full((2, 5, 3), 2.0))


@pytest.mark.parametrize(
    "compress",
    [
        ChannelConv(8, 3),
        TokenConv(8, 3),
        FactoredChannelConv(8, 3, 3),
        FactoredChannelConv(8, 3, 2),
        FactoredChannelConv(8, 3, 3, causal=True),
    ],
    ids=lambda c: type(c).__name__,
)
def test_compressors_start_as_the_mean_of_the_present_token(compress: nn.Module) -> None:
    assert torch.allclose(compress(STATE), STATE.mean(2), atol=1e-6)


def test_one_channel_is_read_as_it_is_and_keeps_no_copy() -> None:
    assert SingleChannel()(STATE[:, :, :1]).data_ptr() == STATE.data_ptr()


@pytest.mark.parametrize("V", [1, 2, 4, 8])
@pytest.mark.parametrize("taps", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("causal", [False, True])
def test_the_factored_channel_convolution_is_its_two_factors(V: int, taps: int, causal: bool) -> None:
    compress = FactoredChannelConv(8, V, taps, causal=causal)
    nn.init.normal_(compress.kernel)
    nn.init.normal_(compress.read)
    state = torch.randn(1, 1, V, 8)
    left = taps - 1 if causal else (taps - 1) // 2
    padded = nn.functional.pad(state[0, 0].T, (left, taps - 1 - left))  # [D, V + taps - 1]
    convolved = nn.functional.conv1d(padded.unsqueeze(0), compress.kernel.unsqueeze(1), groups=8)[0]
    assert torch.allclose(compress(state)[0, 0], convolved @ compress.read, atol=1e-5)


def test_the_embedding_convolution_starts_as_repetition() -> None:
    x = torch.randn(2, 7, 8)
    assert torch.equal(EmbedConv(8, 3)(x), Repeat(3)(x))
    assert Repeat(3)(x).is_contiguous()


@pytest.mark.parametrize("kind", [TokenConv, EmbedConv])
def test_convolutions_decode_as_they_read(kind: type[nn.Module]) -> None:
    from deep_delta.nn.short_conv import ConvTail

    module, tail = kind(8, 3), ConvTail()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    x = STATE if kind is TokenConv else torch.randn(2, 5, 8)
    pieces = [module(x[:, a:b], tail) for a, b in ((0, 1), (1, 2), (2, 5))]
    assert torch.allclose(torch.cat(pieces, 1), module(x), atol=1e-6)
