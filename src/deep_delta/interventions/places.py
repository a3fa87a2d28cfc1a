"""The named places of a model that can be read and replaced, and the sublayers where they are."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable, Sequence

from torch import nn

from deep_delta.errors import ConfigError
from deep_delta.interventions.updates import places_of
from deep_delta.models.transformer import DdlTransformer, Sublayer
from deep_delta.nn.delta_net import DeltaNet
from deep_delta.nn.residual import ResidualStream

Pattern = str | re.Pattern[str]
"""A name, a glob (`blocks.*.mlp.hook_beta`) or a compiled regular expression that fits the whole name."""

OVER_TIME = ("hook_k", "hook_v", "hook_beta", "hook_read", "hook_write", "hook_state")
"""Of a DeltaNet, as `blocks.{i}.mixer.time.…`."""


def transformer_in(model: nn.Module) -> DdlTransformer:
    """The `DdlTransformer` that `model` is or wraps (`torch.compile`, PEFT, DDP); `ConfigError` where there is none."""
    found = next((one for one in model.modules() if isinstance(one, DdlTransformer)), None)
    if found is None:
        raise ConfigError(f"a {type(model).__name__} has no places: it neither is nor wraps a DdlTransformer")
    return found


def sublayers_of(model: DdlTransformer) -> list[Sublayer]:
    """The mixer and the MLP of every block in order, also where a block or a sublayer is wrapped."""
    found = []
    for layer, block in enumerate(model.blocks):
        inside = [one for one in block.modules() if isinstance(one, Sublayer)]
        if [one.kind == "mlp" for one in inside] != [False, True]:
            raise ConfigError(f"blocks.{layer} is a {type(block).__name__} without a mixer and an MLP of this package")
        found += inside
    return found


def memory_of(sublayer: Sublayer) -> DeltaNet | None:
    """The DeltaNet that mixes a sublayer's tokens, also where it is wrapped."""
    return next((one for one in sublayer.process.modules() if isinstance(one, DeltaNet)), None)


def place_names(model: nn.Module) -> list[str]:
    """Every place of a model, in the order in which a forward pass comes to them.

    `blocks.{i}.hook_resid_pre`, `_mid` and `_post` are the state before the mixer's rewrite, between the two and after
    the MLP's, [B, T, D, V]. Each sublayer, `blocks.{i}.mixer` and `blocks.{i}.mlp`, has the parts of its rewrite, by
    the kind of residual:

    | residual | places |
    |---|---|
    | delta, write_only | `hook_k` [B, T, D], of length 1; `hook_v` [B, T, V]; `hook_beta` [B, T, 1]; `hook_read` = kᵀX [B, T, V]; `hook_write` |
    | additive | `hook_out` [B, T, D], what the sublayer gives; `hook_write` |
    | hyper | `hook_mixed` [B, T, D, V], the streams after A_rᵀ; `hook_out` [B, T, D]; `hook_v` [B, T, V], B of each stream; `hook_write` |

    `hook_write` [B, T, D, V] is the increment: state + increment is the next state. A DeltaNet's rewrite of its memory
    S over time has `blocks.{i}.mixer.time.hook_k`, `hook_v`, `hook_beta`, `hook_read`, `hook_write` and `hook_state`:
    [B, T, H, K], [B, T, H, K], [B, T, H], [B, T, H, K] and twice [B, T, H, K, K]; `hook_state` is S after each token.
    """  # noqa: E501
    names = []
    for number, sublayer in enumerate(sublayers_of(transformer_in(model))):
        layer, kind = number // 2, ("mixer", "mlp")[number % 2]
        names.append(f"blocks.{layer}.hook_resid_{('pre', 'mid')[number % 2]}")
        if kind == "mixer" and memory_of(sublayer) is not None:
            names += [f"blocks.{layer}.mixer.time.{tail}" for tail in OVER_TIME]
        assert isinstance(sublayer.stream, ResidualStream)
        names += [f"blocks.{layer}.{kind}.{tail}" for tail in places_of(sublayer.stream)]
        if kind == "mlp":
            names.append(f"blocks.{layer}.hook_resid_post")
    return names


def matching(names: Sequence[str], patterns: Iterable[Pattern]) -> list[str]:
    """Those of `names` that a pattern fits, in their order; `ConfigError` with near names for one that fits none."""
    wanted = set()
    for pattern in patterns:
        fitting = [name for name in names if _fits(name, pattern)]
        if not fitting:
            raise ConfigError(_no_place(pattern if isinstance(pattern, str) else pattern.pattern, names))
        wanted.update(fitting)
    return [name for name in names if name in wanted]


def _fits(name: str, pattern: Pattern) -> bool:
    if isinstance(pattern, str):
        return name == pattern or fnmatch.fnmatchcase(name, pattern)
    return pattern.fullmatch(name) is not None


def _no_place(pattern: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.5)
    home = pattern.rpartition(".")[0]
    there = [name.removeprefix(f"{home}.") for name in names if home and name.rpartition(".")[0] == home]
    message = f"no place of this model is called {pattern!r}"
    if there:
        message += f"; {home} has {', '.join(there)}"
    else:
        message += f"; near: {', '.join(near)}" if near else f"; they are {', '.join(names[:3])}, …"
    return message
