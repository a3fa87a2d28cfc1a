"""Reading and replacing what is at the named places of a model, while it runs."""

# B batch, T time, V value channels, D width

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from deep_delta.errors import ConfigError
from deep_delta.interventions.forward_pass import BY_TOKEN, ForwardPass, Replacement, setting
from deep_delta.interventions.places import Pattern, matching, place_names, transformer_in
from deep_delta.nn.residual import FusedStream
from deep_delta.ops.linear_cross_entropy import Reduction


def with_places(model: nn.Module, ids: Tensor, names: Iterable[Pattern]) -> dict[str, Tensor]:
    """What is at the places that `names` fit (see `place_names`), in one forward pass on ids [B, T].

    Names, globs and regular expressions. The tensors are copies, in the precision of the model (rewrites in fp32 at
    least). They take part in the graph where gradients are on; the mode of the model is left as it is.
    `ConfigError` with near names for a name that fits nothing.
    """
    wanted = matching(place_names(model), [names] if isinstance(names, str) else names)
    found: dict[str, list[Tensor]] = {name: [] for name in wanted}
    run_with(model, ids, {name: partial(_record, found[name]) for name in wanted})
    return {name: torch.cat(parts, 1) if name.endswith(BY_TOKEN) else parts[0] for name, parts in found.items()}


def run_with(
    model: nn.Module,
    ids: Tensor,
    replacements: Mapping[str, Replacement] | Sequence[tuple[Pattern, Replacement]],
    targets: Tensor | None = None,
    *,
    reduction: Reduction = "mean",
) -> Tensor:
    """`model(ids)`, or the loss with targets, with some places replaced (see `patched`)."""
    with patched(model, replacements) as visited:
        out: Tensor = model(ids) if targets is None else model(ids, targets, reduction=reduction)
    if missed := [name for name, seen in visited.items() if not seen]:
        raise ConfigError(f"the model never called {missed[0]}: something in its place does its work")
    return out


@contextmanager
def patched(
    model: nn.Module, replacements: Mapping[str, Replacement] | Sequence[tuple[Pattern, Replacement]]
) -> Iterator[dict[str, bool]]:
    """Within this context every forward pass of the model has some places replaced, also while it decodes.

    Replacements stand by name or pattern, and a later one at the same place sees what an earlier one made. A replaced
    direction is normalised again; a replaced `hook_read` r gives X + βk(v − r)ᵀ. Gradients reach a tensor that is put
    at a place, so that patches can be attributed. Where nothing is replaced, the model computes bit for bit what it
    does otherwise; compiled parts run eagerly, and states are stored rather than rebuilt. Yields, by the names of its
    parts, whether the model has called each.

    Raises:
        ConfigError: a pattern fits no place, or a replacement has another shape; the message has the near names, or
            both shapes.
    """
    transformer, names = transformer_in(model), place_names(model)
    at_place: dict[str, list[Replacement]] = {}
    for pattern, given in replacements.items() if isinstance(replacements, Mapping) else replacements:
        for name in matching(names, [pattern]):
            at_place.setdefault(name, []).append(given)
    pass_ = ForwardPass(transformer, at_place)
    with ExitStack() as stack:
        if any(one._compiled_call_impl is not None or hasattr(one, "_orig_mod") for one in model.modules()):
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        stack.enter_context(setting(transformer, "recompute", False))
        for one in transformer.modules():
            if isinstance(one, FusedStream):
                stack.enter_context(setting(one, "rebuild", False))
        pass_.attach(stack)
        yield pass_.visited


def _record(found: list[Tensor], there: Tensor) -> None:
    found.append(there.clone(memory_format=torch.contiguous_format))
