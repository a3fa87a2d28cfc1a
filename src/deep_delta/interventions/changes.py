"""From an `Intervention` to what is put at the places of one sublayer."""

# B windows, T time, V value channels, D width

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from deep_delta.interventions.documents import class_code
from deep_delta.interventions.forward_pass import Replacement
from deep_delta.interventions.places import Pattern
from deep_delta.interventions.subject import Clean, Home, Subject, Window, norms, place
from deep_delta.runs.inspection import Intervention

Put = list[tuple[Pattern, Replacement]]

_NOISE = 1e-5
"""Of an increment's norm: a change below it is rounding, and is not scaled up."""


@dataclass
class Setting:
    """What an intervention draws from: a model's gates over all documents [N, T], and a generator for each of them."""

    subject: Subject
    gates: dict[Home, Tensor]
    generators: dict[tuple[Intervention, Home], torch.Generator] = field(default_factory=dict)

    def generator(self, intervention: Intervention, home: Home) -> torch.Generator:
        """The same draws for the same intervention at the same sublayer, going on from window to window."""
        key = intervention, home
        if key not in self.generators:
            number = self.subject.homes.index(home)
            self.generators[key] = torch.Generator().manual_seed((intervention.seed * 65_537 + number) % 2**63)
        return self.generators[key]


def homes_of(intervention: Intervention, subject: Subject) -> list[Home]:
    """The sublayers where an intervention acts; none for a layer that the model does not have."""
    return [
        home
        for home in subject.homes
        if intervention.layer in (None, home[0]) and intervention.sublayer in (None, home[1])
    ]


def put_at(intervention: Intervention, home: Home, setting: Setting, window: Window, clean: Clean) -> Put:
    """What is put where, for an intervention at one sublayer.

    `ConfigError` where the sublayer has no such place (`matching` says so), or there is no such class or layer.
    """
    mask = _mask(intervention, setting.subject, window)
    generator = setting.generator(intervention, home)

    def masked(change: Callable[[Tensor], Tensor]) -> Replacement:
        if mask is None:
            return change
        return lambda there: torch.where(mask.view(*mask.shape, *(1,) * (there.ndim - 2)), change(there), there)

    match intervention.what:
        case "gate_0" | "gate_1" | "gate_2":
            value = float(intervention.what[-1])
            return [(place(home, "hook_beta"), masked(lambda beta: torch.full_like(beta, value)))]
        case "gate_at_most_1":
            return [(place(home, "hook_beta"), masked(lambda beta: beta.clamp(max=1.0)))]
        case "gate_mean":
            mean = _real(setting, setting.gates[home]).mean().item() if home in setting.gates else 0.0
            return [(place(home, "hook_beta"), masked(lambda beta: torch.full_like(beta, mean)))]
        case "gate_resampled":
            other = _resampled(setting, home, intervention.seed)[window.rows] if home in setting.gates else None
            return [(place(home, "hook_beta"), masked(lambda beta: _like(other, beta)))]
        case "erase_only":
            return [(place(home, "hook_v"), masked(torch.zeros_like))]
        case "write_only":
            return [(place(home, "hook_read"), masked(torch.zeros_like))]
        case "sublayer_removed":
            return [(place(home, "hook_write"), masked(torch.zeros_like))]
        case "direction_random":
            k = random_directions(clean.write[home].shape[:3], generator).to(clean.write[home])
        case "direction_of_layer":
            assert intervention.from_layer is not None
            k = clean.k[intervention.from_layer, home[1]]
    return [
        (place(home, "hook_k"), lambda there: None),  # refused where there is no direction
        (place(home, "hook_write"), masked(lambda write: _along(write, clean.k[home], k))),
    ]


def random_directions(shape: torch.Size | tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Of length 1, one for each token: [B, T, D]."""
    drawn = torch.randn(shape, generator=generator, dtype=torch.float64)
    return drawn / drawn.norm(dim=-1, keepdim=True)


def along_random(change_BTDV: Tensor, generator: torch.Generator) -> Tensor:
    """A change with the same norm at every token, along a random direction.

    Its shares of the value channels are those of the change's largest column; exactly so where the change has rank 1.
    """
    columns = change_BTDV.norm(dim=2, keepdim=True)
    largest = change_BTDV.gather(3, columns.argmax(3, keepdim=True).expand(-1, -1, change_BTDV.shape[2], 1))
    shares_BT1V = (largest * change_BTDV).sum(2, keepdim=True)
    shares_BT1V = shares_BT1V / shares_BT1V.norm(dim=3, keepdim=True).clamp_min(torch.finfo(shares_BT1V.dtype).tiny)
    k_BTD1 = random_directions(change_BTDV.shape[:3], generator).to(change_BTDV).unsqueeze(-1)
    return k_BTD1 * shares_BT1V * norms(change_BTDV)[..., None, None]


def rescaled(write_BTDV: Tensor, clean_BTDV: Tensor, size_BT: Tensor) -> Tensor:
    """The increment, with its difference from the clean one made of norm `size` at every token where there is one."""
    change = write_BTDV - clean_BTDV
    norm = norms(change)
    scale = torch.where(norm > _NOISE * norms(clean_BTDV), size_BT / norm, 0.0)
    return clean_BTDV + change * scale[..., None, None]


def _along(write_BTDV: Tensor, k_BTD: Tensor, other_BTD: Tensor) -> Tensor:
    """The increment k wᵀ along another direction."""
    w_BT1V = (write_BTDV * k_BTD.unsqueeze(-1)).sum(2, keepdim=True)
    return other_BTD.unsqueeze(-1) * w_BT1V


def _mask(intervention: Intervention, subject: Subject, window: Window) -> Tensor | None:
    """[B, T]: the tokens that an intervention names; None for all."""
    if intervention.positions is None and intervention.token_class is None:
        return None
    mask = torch.ones_like(window.real)
    if intervention.positions is not None:
        mask[:, [position for position in range(mask.shape[1]) if position not in intervention.positions]] = False
    if intervention.token_class is not None:
        mask &= window.codes == class_code(subject.documents.classes, intervention.token_class)
    return mask


def _real(setting: Setting, gates_NT: Tensor) -> Tensor:
    return gates_NT[torch.from_numpy(setting.subject.documents.real.copy())]


def _resampled(setting: Setting, home: Home, seed: int) -> Tensor:
    """The gates of all documents, each at another token, by a permutation of the tokens that are no padding."""
    gates = setting.gates[home].clone()
    real = torch.from_numpy(setting.subject.documents.real.copy())
    gates[real] = permuted(gates[real], seed)
    return gates


def permuted(values: Tensor, seed: int) -> Tensor:
    """In an order that the seed draws."""
    return values[torch.randperm(len(values), generator=torch.Generator().manual_seed(seed))]


def _like(gates: Tensor | None, beta: Tensor) -> Tensor:
    assert gates is not None
    return gates.unsqueeze(-1).to(beta)
