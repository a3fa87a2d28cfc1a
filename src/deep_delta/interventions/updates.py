"""One sublayer's rewrite of the state, taken apart into places that can be read and replaced."""

# B batch, T time, V value channels, D width; public places have the paper's order of axes, [B, T, D, V]

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from deep_delta.errors import ConfigError
from deep_delta.nn.hyper import HyperOutput, HyperStream
from deep_delta.nn.residual import AdditiveStream, DeltaStream, ResidualStream, Rewrite, WriteOnlyStream
from deep_delta.ops import normalize_direction

At = Callable[[str, Callable[[], Tensor]], Tensor | None]
"""Called at a place with its name and a function that makes what is there; returns what replaces it, or None."""


def places_of(stream: ResidualStream) -> tuple[str, ...]:
    """The places of a rewrite by streams of this kind, in the order in which `edit_rewrite` comes to them."""
    if isinstance(stream, DeltaStream):
        return ("hook_k", "hook_v", "hook_beta", "hook_read", "hook_write")
    if isinstance(stream, AdditiveStream):
        return ("hook_out", "hook_write")
    if isinstance(stream, HyperStream | HyperOutput):
        return ("hook_mixed", "hook_out", "hook_v", "hook_write")
    return ("hook_write",)


def edit_rewrite(
    stream: ResidualStream, before_BTVD: Tensor, state_BTVD: Tensor, rewrite: Rewrite, at: At
) -> tuple[Tensor, Rewrite | None]:
    """Pass all places of a rewrite, and return what is to be written into which state.

    before: the state that the sublayer found. state: what the rewrite is added to, which hyper-connections have mixed.
    Where nothing is replaced, what comes back is what was given; None for the rewrite: the state has all of it already.
    """
    if isinstance(stream, DeltaStream):
        rewrite = _edit_delta(stream, state_BTVD, rewrite, at)
    elif isinstance(stream, HyperStream | HyperOutput):
        mixed = at("hook_mixed", lambda: state_BTVD.mT)
        if mixed is not None:
            state_BTVD = mixed.mT.contiguous()
        rewrite = _replace(rewrite, direction=at("hook_out", lambda: rewrite.direction))
        rewrite = _replace(rewrite, value=at("hook_v", lambda: _there(rewrite.value)))
    elif isinstance(stream, AdditiveStream):
        rewrite = _replace(rewrite, direction=at("hook_out", lambda: rewrite.direction))
    final, base_BTVD = rewrite, state_BTVD
    increment = at("hook_write", lambda: _increment(stream, before_BTVD, base_BTVD, final).mT)
    if increment is None:
        return state_BTVD, rewrite
    return (before_BTVD + increment.mT).to(state_BTVD.dtype), None


def _edit_delta(stream: DeltaStream, state_BTVD: Tensor, rewrite: Rewrite, at: At) -> Rewrite:
    given = rewrite
    rewrite = _replace(given, direction=at("hook_k", lambda: normalize_direction(given.direction, stream.eps)))
    rewrite = _replace(rewrite, value=at("hook_v", lambda: _there(given.value)))
    rewrite = _replace(rewrite, beta=at("hook_beta", lambda: _there(given.beta)))
    k_BTD, value_BTV = rewrite.direction, _there(rewrite.value)
    read_BTV = at("hook_read", lambda: readout(state_BTVD, normalize_direction(k_BTD, stream.eps)))
    if read_BTV is None:
        return rewrite
    if not stream.erase:
        raise ConfigError("hook_read of a write_only residual cannot be replaced: what it reads changes nothing")
    # X + βk(v − r)ᵀ is the update with v − r + kᵀX in the place of v.
    unchanged = readout(state_BTVD, normalize_direction(k_BTD, stream.eps))
    return rewrite._replace(value=value_BTV + (unchanged - read_BTV))


def readout(state_BTVD: Tensor, k_BTD: Tensor) -> Tensor:
    """kᵀX [B, T, V], in k's precision."""
    return torch.einsum("btvd,btd->btv", state_BTVD.to(k_BTD.dtype), k_BTD)


def _increment(stream: ResidualStream, before_BTVD: Tensor, state_BTVD: Tensor, rewrite: Rewrite) -> Tensor:
    """What a rewrite adds to the state that its sublayer found, in fp32 at least, [B, T, V, D].

    By its formula where there is one, because the difference of two states has lost the digits that they share.
    """
    if type(stream) in (DeltaStream, WriteOnlyStream):
        assert isinstance(stream, DeltaStream)
        k_BTD = normalize_direction(rewrite.direction, stream.eps)
        delta_BTV = _there(rewrite.value).to(k_BTD.dtype)
        if stream.erase:
            delta_BTV = delta_BTV - readout(state_BTVD, k_BTD)
        return (_there(rewrite.beta) * delta_BTV).unsqueeze(-1) * k_BTD.unsqueeze(2)
    if type(stream) is AdditiveStream:
        return rewrite.direction.unsqueeze(2)
    wide = torch.promote_types(state_BTVD.dtype, torch.float32)
    return stream.write(state_BTVD, rewrite).to(wide) - before_BTVD.to(wide)


def _replace(rewrite: Rewrite, **parts: Tensor | None) -> Rewrite:
    """With those parts replaced that are not None; the same object where all are."""
    given = {name: part for name, part in parts.items() if part is not None}
    return rewrite._replace(**given) if given else rewrite


def _there(part: Tensor | None) -> Tensor:
    assert part is not None
    return part
