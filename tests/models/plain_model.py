"""The transformer once more, in the plainest PyTorch: every part is called as a module, and nothing is fused.

What this gives for a model whose parts were replaced, wrapped or hooked is what the model itself has to give.
"""

# B batch, T time, V value channels, D width, H heads, K head width

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from deep_delta import DdlTransformer

Effects = Mapping[str, Callable[[Any], Any]]
"""What is done to the output of a module that this model takes apart instead of calling it, by its name."""


def logits(model: DdlTransformer, ids: Tensor, effects: Effects | None = None) -> Tensor:
    """[B, T, vocab_size]; `effects` are those attached to blocks, sublayers, streams and processes."""
    at = _at(effects or {})
    config, rewrite = model.config, None
    state = model.expand(model.embedding(ids))
    for place, block in enumerate(model.blocks):
        name = f"blocks.{place}"
        for part in ("mixer", "mlp"):
            sublayer = getattr(block, part)
            if config.residual == "hyper":
                state, x, value = _hyper(sublayer.stream, state, rewrite)
                state = at(f"{name}.{part}.stream", (state,))[0]
                c = sublayer.norm(x)
            else:
                state = state if rewrite is None else _write(config, state, rewrite)
                x = block.compress(state)
                c = sublayer.norm(x)
                state = at(f"{name}.{part}.stream", (state,))[0]
            kind = config.mixers[place] if part == "mixer" else "mlp"
            h = at(f"{name}.{part}.process", PROCESSES[kind](sublayer.process, c, config))
            if config.residual == "hyper":
                rewrite = (h, value, None)
            elif config.residual == "additive":
                rewrite = (h, None, None)
            else:
                rewrite = _propose(sublayer.stream, x, c, h)
            state, *rewrite = at(f"{name}.{part}", (state, *rewrite))
        state, *rewrite = at(name, (state, *rewrite))
    c = model.norm(model.readout(_write(config, state, rewrite)))
    out = F.linear(c, model.embedding.weight) if model.head is None else model.head(c)
    return at("", out)


def _at(effects: Effects) -> Callable[[str, Any], Any]:
    return lambda name, out: effects[name](out) if name in effects else out


def _write(config: Any, state: Tensor, rewrite: Any) -> Tensor:
    h, value, beta = rewrite
    if config.residual == "additive":
        return state + h.unsqueeze(2)
    if config.residual == "hyper":
        return state + value.unsqueeze(-1) * h.unsqueeze(2)
    k = h / (h.square().sum(-1, keepdim=True) + config.k_eps**2).sqrt()
    error = value - (state * k.unsqueeze(2)).sum(-1) if config.residual == "delta" else value
    return state + (beta * error).unsqueeze(-1) * k.unsqueeze(2)


def _propose(stream: Any, x: Tensor, c: Tensor, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    source = h if stream.key is not None else {"context": c, "state": x, "branch": h}[stream.value_source]
    return (h if stream.key is None else stream.key(c)), stream.value(source), stream.gate(c)


def _hyper(stream: Any, state: Tensor, rewrite: Any) -> tuple[Tensor, Tensor, Tensor]:
    if rewrite is not None:
        state = state + rewrite[1].unsqueeze(-1) * rewrite[0].unsqueeze(2)
    unit = state / (state.square().mean(-1, keepdim=True) + stream.norm_eps).sqrt()
    V = state.shape[2]
    scales = torch.cat((stream.scale[:1].expand(V + 1), stream.scale[1:]))
    coefficients = stream.static + scales * torch.tanh(stream.dynamic(unit))
    x = (coefficients[..., :1] * state).sum(2)
    mixed = torch.einsum("btvw,btvd->btwd", coefficients[..., 1:-1], state)
    return mixed, x, coefficients[..., -1]


def _attention(process: Any, c: Tensor, config: Any) -> Tensor:
    B, T, _ = c.shape
    q, k, v = process.qkv(c).view(B, T, 3, config.num_heads, config.head_dim).permute(2, 0, 3, 1, 4)
    half = config.rotary_dim // 2
    frequency = config.rope_theta ** (-torch.arange(half, dtype=torch.float64) / max(half, 1))
    angle = (torch.arange(T, dtype=torch.float64)[:, None] * frequency).to(c.dtype)

    def rotated(x: Tensor) -> Tensor:
        one, two = x[..., :half], x[..., half : 2 * half]
        turned = (one * angle.cos() - two * angle.sin(), one * angle.sin() + two * angle.cos())
        return torch.cat((*turned, x[..., 2 * half :]), -1)

    q, k = process.q_norm(rotated(q)), process.k_norm(rotated(k))
    later = torch.ones(T, T, dtype=torch.bool).triu(1)
    weights = (q @ k.mT * config.head_dim**-0.5).masked_fill(later, -torch.inf).softmax(-1)
    return process.out((weights @ v).transpose(1, 2).reshape(B, T, -1))


def _delta_net(process: Any, c: Tensor, config: Any) -> Tensor:
    B, T, _ = c.shape
    qkv = process.conv(process.qkv(c)).view(B, T, 3, config.num_heads, config.head_dim)
    q, k, v = qkv.permute(2, 0, 3, 1, 4)
    q, k = (x / (x.square().sum(-1, keepdim=True) + 1e-12).sqrt() for x in (q, k))
    beta = process.beta(c).sigmoid().transpose(1, 2) * (2 if config.neg_eigval else 1)
    S, outputs = torch.zeros(B, config.num_heads, config.head_dim, config.head_dim, dtype=c.dtype), []
    for t in range(T):
        error = v[:, :, t] - torch.einsum("bhk,bhke->bhe", k[:, :, t], S)
        S = S + torch.einsum("bhk,bhe->bhke", k[:, :, t], beta[:, :, t, None] * error)
        outputs.append(torch.einsum("bhk,bhke->bhe", q[:, :, t], S) * config.head_dim**-0.5)
    o = process.norm(torch.stack(outputs, 1))
    if process.gate is not None:
        o = o * F.silu(process.gate(c)).view_as(o)
    return process.out(o.reshape(B, T, -1))


def _swiglu(process: Any, c: Tensor, config: Any) -> Tensor:
    gate, up = process.gate_up(c).chunk(2, -1)
    return process.down(F.silu(gate) * up)


PROCESSES: dict[str, Callable[[Any, Tensor, Any], Tensor]] = {
    "attention": _attention,
    "deltanet": _delta_net,
    "mlp": _swiglu,
}
