"""One forward pass of a model, held at every place where something is to be read or replaced."""

# B batch, T time, V value channels, D width

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from deep_delta.errors import ConfigError
from deep_delta.interventions.memory import edit_memory
from deep_delta.interventions.places import memory_of, sublayers_of
from deep_delta.interventions.updates import edit_rewrite
from deep_delta.models.transformer import DdlTransformer, Sublayer
from deep_delta.nn.delta_net import DeltaNet
from deep_delta.nn.residual import FusedStream, ResidualStream, Rewrite

Replacement = Tensor | Callable[[Tensor], Tensor | None]
"""What is put at a place: a tensor of the shape of what is there, or a function of that, which may return None to leave
it. A function at a memory's `hook_read`, `hook_write` or `hook_state` is called once for each token, with T = 1."""

BY_TOKEN = ("time.hook_read", "time.hook_write", "time.hook_state")


class ForwardPass:
    """Passes the places of each forward pass of a model in order.

    What a sublayer proposes is written where the next one is entered, so a hook before each sublayer, and before the
    output's stream, sees the state and the rewrite that is to go into it, and may hand on others.
    """

    def __init__(self, model: DdlTransformer, replacements: Mapping[str, Sequence[Replacement]]) -> None:
        self.model, self.replacements = model, replacements
        self.sublayers = sublayers_of(model)
        parts = [f"blocks.{layer}.{kind}" for layer in range(len(model.blocks)) for kind in ("mixer", "mlp")]
        self.visited = dict.fromkeys([*parts, "stream"], False)
        self.before: dict[int, Tensor] = {}
        """The state [B, T, V, D] that each sublayer found."""

    def attach(self, stack: ExitStack) -> None:
        """Hook every sublayer that has something to do, until the stack closes."""
        boundaries: dict[nn.Module, list[int]] = {}
        for number, part in enumerate((*self.sublayers, self.model.stream)):
            boundaries.setdefault(part, []).append(number)
        for part, numbers in boundaries.items():
            handle = part.register_forward_pre_hook(partial(self._enter, _taking_turns(numbers)))
            stack.callback(handle.remove)
        memories: dict[DeltaNet, list[int]] = {}
        for number, sublayer in enumerate(self.sublayers):
            mixer = memory_of(sublayer) if sublayer.kind != "mlp" else None
            if mixer is not None and self._has(f"blocks.{number // 2}.mixer.time."):
                memories.setdefault(mixer, []).append(number // 2)
        for mixer, layers in memories.items():
            stack.enter_context(setting(mixer, "answer", partial(self._answer, mixer, _taking_turns(layers))))

    def _enter(self, turn: Iterator[int], part: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """Before boundary number `next(turn)`: what the sublayer before it wants written, then the state itself."""
        number = next(turn)
        self.visited[list(self.visited)[number]] = True
        is_sublayer = isinstance(part, Sublayer)
        state: Tensor = inputs[0]
        rewrite: Rewrite | None = Rewrite.of(*inputs[1:5]) if is_sublayer else inputs[1]
        stream = part.stream if isinstance(part, Sublayer) else part
        assert isinstance(stream, ResidualStream)
        given = state, rewrite
        if rewrite is not None:
            name = f"blocks.{(number - 1) // 2}.{('mixer', 'mlp')[(number - 1) % 2]}."
            mixes = not isinstance(stream, FusedStream)
            before = self.before.get(number - 1, state) if mixes else state
            state, rewrite = edit_rewrite(stream, before, state, rewrite, partial(self._at, name))
        state, rewrite = self._pass_states(number, stream, state, rewrite)
        if given[0] is state and given[1] is rewrite:
            return None
        parts = rewrite if rewrite is not None else (None,) * 4
        return (state, *parts, *inputs[5:]) if is_sublayer else (state, rewrite, *inputs[2:])

    def _pass_states(
        self, number: int, stream: ResidualStream, state: Tensor, rewrite: Rewrite | None
    ) -> tuple[Tensor, Rewrite | None]:
        """Pass the places of the state that boundary `number` is entered with."""
        layer, odd = divmod(number, 2)
        names = [f"blocks.{layer}.hook_resid_mid"] if odd else []
        if not odd:
            names += [f"blocks.{layer - 1}.hook_resid_post"] if layer else []
            names += [f"blocks.{layer}.hook_resid_pre"] if layer < len(self.model.blocks) else []
        wanted = list(names)
        if not isinstance(stream, FusedStream):  # mixes the state before the next write
            wanted.append(f"blocks.{layer}.{('mixer', 'mlp')[odd]}.hook_write")
        if not any(name in self.replacements for name in wanted):
            return state, rewrite
        found = state if rewrite is None else stream.write(state, rewrite)
        made = found
        for name in names:
            replaced = self._at("", name, lambda made=made: made.mT)  # type: ignore[misc]
            made = made if replaced is None else replaced.mT.contiguous()
        self.before[number] = made
        return (state, rewrite) if made is found else (made, None)

    def _answer(self, mixer: DeltaNet, turn: Iterator[int], q: Tensor, k: Tensor, v: Tensor, beta: Tensor) -> Tensor:
        home = f"blocks.{next(turn)}.mixer."
        tokens = {tail: itertools.count() for tail in BY_TOKEN}

        def at(tail: str, make: Callable[[], Tensor]) -> Tensor | None:
            tail = f"time.{tail}"
            return self._at(home, tail, make, (next(tokens[tail]), q.shape[2]) if tail in tokens else None)

        stepwise = any(self._has(f"{home}{tail}") for tail in BY_TOKEN)
        return edit_memory(mixer, q, k, v, beta, at, stepwise=stepwise)

    def _has(self, start: str) -> bool:
        return any(name.startswith(start) for name in self.replacements)

    def _at(
        self, home: str, tail: str, make: Callable[[], Tensor], token: tuple[int, int] | None = None
    ) -> Tensor | None:
        """What replaces the tensor at a place, of its shape and dtype; None where nothing does.

        token: its number and how many there are, where the place is passed once for each.
        """
        given = self.replacements.get(f"{home}{tail}")
        if given is None:
            return None
        there = now = make()
        for one in given:
            new = one if isinstance(one, Tensor) else one(now)
            if new is None or new is now:
                continue
            shape = there.shape
            if token is not None and isinstance(one, Tensor):
                shape = torch.Size((shape[0], token[1], *shape[2:]))
            if new.shape != shape:
                raise ConfigError(
                    f"{home}{tail} has shape {tuple(shape)}, and what is to replace it {tuple(new.shape)}"
                )
            if token is not None and isinstance(one, Tensor):
                new = new[:, token[0] : token[0] + 1]
            now = new.to(there.device, there.dtype)
        return None if now is there else now


def _taking_turns(numbers: Sequence[int]) -> Iterator[int]:
    """The places of one part: a part that stands at several is called there one after the other, in each pass."""
    return itertools.cycle(numbers)


@contextmanager
def setting(owner: Any, name: str, value: Any) -> Iterator[None]:
    """An attribute has another value for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)
