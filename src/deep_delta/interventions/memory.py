"""A DeltaNet's rewrites of its memory over time, taken apart into places that can be read and replaced."""

# B batch, T time, H heads, K head width; places have the token axis second, [B, T, H, …]

from __future__ import annotations

import torch
from torch import Tensor

from deep_delta.interventions.updates import At
from deep_delta.nn.delta_net import FADE, DeltaNet
from deep_delta.ops import chunk_delta_rule, normalize_direction


def edit_memory(mixer: DeltaNet, q: Tensor, k: Tensor, v: Tensor, beta: Tensor, at: At, *, stepwise: bool) -> Tensor:
    """What the memory answers, [B, H, T, K], after all its places were passed; bitwise its own where none is replaced.

    stepwise: the memory itself is wanted. `hook_read`, `hook_write` and `hook_state` are then passed once for each
    token, with T = 1.
    """
    k = _edit(at, "hook_k", normalize_direction(k, mixer.eps), k)
    v, beta = _edit(at, "hook_v", v, v), _edit(at, "hook_beta", beta, beta)
    answers = _step_by_step(mixer, q, k, v, beta, at) if stepwise else None
    if answers is None:
        return chunk_delta_rule(q, k, v, beta, mixer.chunk_size, eps=mixer.eps, fade=FADE)
    return answers


def _step_by_step(mixer: DeltaNet, q: Tensor, k: Tensor, v: Tensor, beta: Tensor, at: At) -> Tensor | None:
    """The answers where the memory was changed at some token, else None."""
    q, k = (normalize_direction(one, mixer.eps, FADE) for one in (q, k))
    v, beta = v.to(k.dtype), beta.to(k.dtype)
    memory = k.new_zeros(*k.shape[:2], k.shape[-1], v.shape[-1])
    answers, changed = [], False

    def passed(name: str, there: Tensor) -> Tensor:
        nonlocal changed
        given = at(name, lambda: there.unsqueeze(1))
        changed = changed or given is not None
        return there if given is None else given.squeeze(1)

    for q_BHK, k_BHK, v_BHK, beta_BH in zip(*(one.unbind(2) for one in (q, k, v, beta)), strict=True):
        read = passed("hook_read", torch.einsum("bhke,bhk->bhe", memory, k_BHK))
        error = beta_BH.unsqueeze(-1) * (v_BHK - read)
        memory = memory + passed("hook_write", k_BHK.unsqueeze(-1) * error.unsqueeze(-2))
        memory = passed("hook_state", memory)
        answers.append(torch.einsum("bhke,bhk->bhe", memory, q_BHK))
    return (torch.stack(answers, 2) * mixer.head_dim**-0.5).to(q.dtype) if changed else None


def _edit(at: At, name: str, there: Tensor, kept: Tensor) -> Tensor:
    """What replaces `there` [B, H, T, …]; `kept` where nothing does."""
    given = at(name, lambda: there.transpose(1, 2))
    return kept if given is None else given.transpose(1, 2)
