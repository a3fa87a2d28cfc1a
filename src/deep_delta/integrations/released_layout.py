"""The released code's parameters, name by name: which of ours each one is, and the change of layout both ways."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from deep_delta.models.config import DdlConfig


class Entry(NamedTuple):
    """One of our parameters, its counterparts there, and the change of layout both ways.

    `ours` is None for parameters that they have and do not use: the value projection beside a constant value.
    """

    ours: str | None
    theirs: tuple[str, ...]
    join: Callable[[list[Tensor], DdlConfig], Tensor]
    split: Callable[[Tensor, DdlConfig], list[Tensor]]


def entries(config: DdlConfig) -> Iterator[Entry]:
    """Every parameter of the model that `config` describes."""
    yield _same("embedding.weight", "transformer.wte.weight")
    yield _same("norm.weight", "ln_f.weight")
    if config.embed_conv:
        yield _conv("expand.weight", "input_embed.conv.weight", middle=(1,))
    yield from _compressor("readout", "readout", config)
    for layer in range(config.num_layers):
        ours, theirs = f"blocks.{layer}", f"transformer.h.{layer}"
        yield from _compressor(f"{ours}.compress", f"{theirs}.compress", config)
        yield _same(f"{ours}.mixer.norm.weight", f"{theirs}.ln_1.weight")
        yield _same(f"{ours}.mlp.norm.weight", f"{theirs}.ln_2.weight")
        yield _stacked(
            f"{ours}.mixer.process.qkv.weight", *(f"{theirs}.attn.c_{part}.weight" for part in ("q", "k", "v"))
        )
        yield _same(f"{ours}.mixer.process.out.weight", f"{theirs}.attn.c_proj.weight")
        if config.qk_norm:
            yield _same(f"{ours}.mixer.process.q_norm.weight", f"{theirs}.attn.q_rms.weight")
            yield _same(f"{ours}.mixer.process.k_norm.weight", f"{theirs}.attn.k_rms.weight")
        yield _stacked(f"{ours}.mlp.process.gate_up.weight", f"{theirs}.mlp.c_fc1.weight", f"{theirs}.mlp.c_fc2.weight")
        yield _same(f"{ours}.mlp.process.down.weight", f"{theirs}.mlp.c_proj.weight")
        if config.residual != "additive":
            yield from _stream(f"{ours}.mixer.stream", f"{theirs}.ddl_attn", config)
            yield from _stream(f"{ours}.mlp.stream", f"{theirs}.ddl_mlp", config)


def _compressor(ours: str, theirs: str, config: DdlConfig) -> Iterator[Entry]:
    if config.d_value == 1:
        return
    yield _same(f"{ours}.read", f"{theirs}.read")
    if config.compression == "token_conv":
        yield _conv(f"{ours}.kernel", f"{theirs}.shortconv.weight")
    else:
        yield _same(f"{ours}.kernel", f"{theirs}.weight")


def _stream(ours: str, theirs: str, config: DdlConfig) -> Iterator[Entry]:
    if config.beta_single_linear:
        yield _same(f"{ours}.gate.out.weight", f"{theirs}.beta.weight")
        yield _same(f"{ours}.gate.out.bias", f"{theirs}.beta.bias")
    else:
        yield _same(f"{ours}.gate.hidden.weight", f"{theirs}.beta_in.weight")
        yield _same(f"{ours}.gate.out.weight", f"{theirs}.beta_out.weight")
        yield _same(f"{ours}.gate.out.bias", f"{theirs}.beta_out.bias")
    used = config.value_constant is None
    yield _same(f"{ours}.value.proj.weight" if used else None, f"{theirs}.v_proj.weight")
    yield _same(f"{ours}.value.proj.bias" if used else None, f"{theirs}.v_proj.bias")


def _same(ours: str | None, theirs: str) -> Entry:
    return Entry(ours, (theirs,), lambda parts, _: parts[0], lambda whole, _: [whole])


def _stacked(ours: str, *theirs: str) -> Entry:
    return Entry(ours, theirs, lambda parts, _: torch.cat(parts), lambda whole, _: list(whole.chunk(len(theirs))))


def _conv(ours: str, theirs: str, *, middle: tuple[int, ...] = ()) -> Entry:
    """Channels flattened feature-major, [D·V, (1,) S], against our [S, V, D]."""

    def join(parts: list[Tensor], config: DdlConfig) -> Tensor:
        return parts[0].reshape(config.d_model, config.d_value, -1).permute(2, 1, 0)

    def split(whole: Tensor, config: DdlConfig) -> list[Tensor]:
        return [whole.permute(2, 1, 0).reshape(config.d_model * config.d_value, *middle, -1)]

    return Entry(ours, (theirs,), join, split)
