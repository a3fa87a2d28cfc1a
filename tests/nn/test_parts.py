"""The small parts: norm, rotary positions, SwiGLU, attention, short convolutions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from deep_delta import RMSNorm, SwiGLU
from deep_delta.nn.attention import Attention, KeyValueCache
from deep_delta.nn.rotary import RotaryTable, rotary_table
from deep_delta.nn.short_conv import ConvTail, ShortConv
from deep_delta.ops.heads import split_heads

CPU = torch.device("cpu")


def test_rms_norm_is_torchs_and_keeps_the_dtype() -> None:
    norm, x = RMSNorm(6), torch.randn(3, 6)
    torch.nn.init.normal_(norm.weight)
    assert torch.allclose(norm(x), x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt() * norm.weight, atol=1e-6)
    assert norm(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("bias", [False, True])
def test_swiglu_is_its_formula(bias: bool) -> None:
    ffn, x = SwiGLU(5, 7, bias=bias), torch.randn(2, 5)
    gate, up = F.linear(x, ffn.gate_up.weight, ffn.gate_up.bias).split(7, dim=-1)
    assert torch.allclose(ffn(x), ffn.down(gate * torch.sigmoid(gate) * up), atol=1e-6)


def rotate(x: Tensor, table: RotaryTable) -> Tensor:
    """x [T, K] at the places of the table."""
    qkv = torch.stack((x, x, x), dim=1)[None, :, :, None]
    return split_heads(qkv, table.cos, table.sin, None)[0][0, 0]


def test_rotary_scores_depend_on_distance_only() -> None:
    q, k = torch.randn(8, dtype=torch.float64), torch.randn(8, dtype=torch.float64)
    table = rotary_table(0, 20, 8, 10000.0, CPU)
    rotated_q, rotated_k = rotate(q.expand(20, 8), table), rotate(k.expand(20, 8), table)
    scores = rotated_q @ rotated_k.T
    for distance in range(19):
        diagonal = scores.diagonal(distance)
        assert torch.allclose(diagonal, diagonal[0].expand_as(diagonal), atol=1e-6)
    assert torch.allclose(rotated_q.norm(dim=-1), q.norm().expand(20), atol=1e-6)


def test_rotary_leaves_the_rest_of_the_head_and_starts_anywhere() -> None:
    x = torch.randn(5, 8)
    assert torch.equal(rotate(x, rotary_table(0, 5, 4, 100.0, CPU))[:, 4:], x[:, 4:])
    assert torch.equal(rotate(x, rotary_table(0, 5, 0, 100.0, CPU)), x)
    whole, later = rotary_table(0, 9, 8, 100.0, CPU), rotary_table(4, 5, 8, 100.0, CPU)
    assert torch.equal(whole.cos[4:], later.cos)


@pytest.mark.parametrize("qk_norm", [True, False])
def test_attention_is_causal_softmax(qk_norm: bool) -> None:
    attention = Attention(12, 3, 4, qk_norm=qk_norm)
    x, table = torch.randn(2, 6, 12), rotary_table(0, 6, 4, 10000.0, CPU)
    q, k, v = attention.qkv(x).unflatten(-1, (3, 3, 4)).permute(2, 0, 3, 1, 4)
    turned = [torch.stack([rotate(head, table) for head in heads.flatten(0, 1)]).view_as(heads) for heads in (q, k)]
    q, k = attention.q_norm(turned[0]), attention.k_norm(turned[1])
    scores = (q @ k.mT / 2).masked_fill(torch.ones(6, 6).triu(1).bool(), float("-inf"))
    expected = attention.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    assert torch.allclose(attention(x, table), expected, atol=1e-5)


def test_key_value_cache_grows_without_losing_anything() -> None:
    cache, keys = KeyValueCache(), torch.randn(2, 3, 37, 4)
    for start, end in ((0, 5), (5, 6), (6, 7), (7, 30), (30, 37)):
        seen, _ = cache.append(keys[:, :, start:end], keys[:, :, start:end])
        assert torch.equal(seen, keys[:, :, :end])
    assert cache.length == 37


def test_a_stacked_key_value_cache_aligns_its_rows_at_the_end() -> None:
    caches, keys = [KeyValueCache(), KeyValueCache()], torch.randn(3, 2, 6, 4)
    caches[0].append(keys[:1], keys[:1])
    caches[1].append(keys[1:, :, :2], -keys[1:, :, :2])
    cache = KeyValueCache.stack(caches)
    assert cache.starts is not None
    assert cache.starts.tolist() == [0, 4, 4]
    seen, values = cache.append(keys[:, :, :1], keys[:, :, :1])
    assert seen.isfinite().all()
    assert torch.equal(seen[1:, :, 4:6], keys[1:, :, :2])
    assert torch.equal(values[1:, :, 4:6], -keys[1:, :, :2])
    mask = cache.mask(1)
    assert mask is not None
    assert mask[:, 0, 0].tolist() == [[True] * 7, [False] * 4 + [True] * 3, [False] * 4 + [True] * 3]
    short = cache.select([2, 1])
    assert (short.length, short.starts, short.mask(1)) == (3, None, None)
    assert torch.equal(short.append(keys[:2, :, :1], keys[:2, :, :1])[0][:, :, :2], keys[[2, 1], :, :2])
    assert cache.length == 7


def test_positions_may_differ_by_row() -> None:
    start = torch.tensor([4, 0])
    table = rotary_table(start, 3, 8, 100.0, CPU)
    qkv = torch.randn(2, 3, 3, 2, 8)
    gain = torch.randn(2, 8)
    for found, row in zip(zip(*split_heads(qkv, table.cos, table.sin, gain), strict=True), range(2), strict=True):
        own = rotary_table(int(start[row]), 3, 8, 100.0, CPU)
        for one, other in zip(found, split_heads(qkv[row : row + 1], own.cos, own.sin, gain), strict=True):
            assert torch.allclose(one, other[0], atol=1e-6)


@pytest.mark.parametrize("taps", [1, 2, 4, 9])
def test_a_short_convolution_is_pytorchs_and_silu(taps: int) -> None:
    x, conv = torch.randn(2, 6, 3), ShortConv(3, taps)
    expected = F.conv1d(F.pad(x.mT, (taps - 1, 0)), conv.weight.T.unsqueeze(1).contiguous(), groups=3).mT
    assert torch.allclose(conv(x), F.silu(expected), atol=1e-6)


def test_a_conv_tail_gives_what_came_before() -> None:
    tail, x = ConvTail(), torch.randn(1, 7, 2)
    assert torch.equal(tail.extend(x[:, :2], 3), torch.cat((torch.zeros(1, 3, 2), x[:, :2]), 1))
    assert torch.equal(tail.extend(x[:, 2:3], 3), torch.cat((torch.zeros(1, 1, 2), x[:, :3]), 1))
    assert torch.equal(tail.extend(x[:, 3:], 3), x)
    assert tail.extend(x, 0) is x


def test_conv_tails_stack_and_select() -> None:
    x = torch.randn(3, 5, 2)
    tails = [ConvTail(), ConvTail()]
    tails[0].extend(x[:1], 2)
    tails[1].extend(x[1:, :1], 2)
    extended = ConvTail.stack(tails).select([2, 0]).extend(x[:2, :1], 2)
    assert torch.equal(extended[:, :2], torch.stack((F.pad(x[2, :1], (0, 0, 1, 0)), x[0, 3:])))
    assert torch.equal(ConvTail.stack([ConvTail(), ConvTail()]).select([1]).extend(x, 2)[:, :2], torch.zeros(3, 2, 2))


def test_a_conv_tail_of_a_long_text_does_not_hold_it() -> None:
    tail, x = ConvTail(), torch.randn(1, 500, 2)
    tail.extend(x, 3)
    assert tail.tensor is not None
    assert tail.tensor.untyped_storage().nbytes() == tail.tensor.nbytes
