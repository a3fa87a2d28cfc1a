"""What the gates, directions and value channels of a model do on its documents."""

# B windows, T time, V value channels, D width, n tokens, S sublayers

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from deep_delta.interventions.forward_pass import Replacement
from deep_delta.interventions.places import Pattern
from deep_delta.interventions.subject import Home, Subject, mean_abs_cosine, place
from deep_delta.runs.inspection import DirectionReuse, GateRow, RankRow


def gate_rows(subject: Subject, gates: dict[Home, Tensor]) -> list[GateRow]:
    """Each gated sublayer over all tokens, by token class and by position; groups without a token are left out."""
    documents = subject.documents
    real = documents.real
    groups = [("all", "all", real)]
    for code, name in enumerate(documents.classes):
        groups.append(("class", name, real & (documents.codes == code)))
    positions = np.arange(documents.ids.shape[1])
    for first, last in position_bins(documents.ids.shape[1]):
        name = str(first) if first == last else f"{first}-{last}"
        groups.append(("position", name, real & (first <= positions) & (positions <= last)))
    rows = []
    for layer, sublayer in subject.gated:
        for group, name, chosen in groups:
            beta = gates[layer, sublayer].numpy()[chosen]
            if len(beta):
                rows.append(
                    GateRow(
                        layer=layer,
                        sublayer=sublayer,
                        group=group,  # type: ignore[arg-type]
                        name=name,
                        tokens=len(beta),
                        beta_mean=float(beta.mean()),
                        beta_std=float(beta.std()),
                        share_above_1=float((beta > 1).mean()),
                    )
                )
    return rows


def position_bins(length: int) -> Iterator[tuple[int, int]]:
    """0, 1-3, 4-15, 16-63, … up to a length: first and last of each."""
    first, end = 0, 1
    while first < length:
        yield first, min(end, length) - 1
        first, end = end, 4 * end


def measure_states(subject: Subject) -> tuple[DirectionReuse | None, list[RankRow]]:
    """How alike the directions of different sublayers are, and how many value channels of the state differ.

    None without directions, and no rows for one value channel.
    """
    config, homes = subject.model.config, subject.gated
    cosines = torch.zeros(len(homes), len(homes), dtype=torch.float64)
    ranks: dict[str, list[Tensor]] = {}
    tokens = 0
    for window in subject.windows():
        k: dict[Home, Tensor] = {}
        reads: list[tuple[Pattern, Replacement]] = []
        for home in homes:
            reads.append((place(home, "hook_k"), _Kept(k, home, window.real)))
        if config.d_value > 1:
            last = config.num_layers - 1
            names = [f"blocks.{layer}.hook_resid_{at}" for layer in range(last + 1) for at in ("pre", "mid")]
            for name in (*names, f"blocks.{last}.hook_resid_post"):
                reads.append((name, _Ranked(ranks.setdefault(name, []), window.real)))
        subject.run(window, reads)
        tokens += int(window.real.sum())
        for row, one in enumerate(homes):
            for column in range(row + 1):
                sum_ = (k[one] * k[homes[column]]).sum(-1).abs().sum().cpu().double()
                cosines[row, column] = cosines[column, row] = cosines[row, column] + sum_
    reuse = None
    if homes:
        mean = (cosines / tokens).clamp(max=1.0)
        reuse = DirectionReuse(
            sublayers=tuple(homes),
            cosines=tuple(tuple(row) for row in mean.tolist()),
            random=mean_abs_cosine(config.d_model),
        )
    return reuse, [_rank_row(name, torch.cat(found, 1), config.d_value) for name, found in ranks.items()]


def effective_ranks(states_nDV: Tensor) -> tuple[Tensor, Tensor]:
    """Participation ratio 1/Σp² and exp of the entropy of p = s²/Σs², [n] each, s being the singular values.

    A state of zeros has 0. Between 1 and V otherwise.
    """
    wide = states_nDV.cpu().double()
    power = torch.linalg.eigvalsh(wide.mT @ wide).clamp_min(0)  # s², by the Gram matrix [V, V]
    total = power.sum(-1, keepdim=True)
    p = torch.where(total > 0, power / total, 0.0)
    there = total.squeeze(-1) > 0
    participation = torch.where(there, 1 / p.square().sum(-1), 0.0)
    entropy = torch.where(there, torch.special.entr(p).sum(-1).exp(), 0.0)
    return participation, entropy


def _rank_row(name: str, ranks_2n: Tensor, d_value: int) -> RankRow:
    participation, entropy = ranks_2n.mean(1).tolist()
    _, layer, at = name.split(".")
    return RankRow(
        layer=int(layer),
        place=at.removeprefix("hook_resid_"),  # type: ignore[arg-type]
        participation=participation,
        entropy=entropy,
        d_value=d_value,
    )


class _Kept:
    """Keeps what is at a place, at the tokens that are no padding."""

    def __init__(self, found: dict[Home, Tensor], home: Home, real: Tensor) -> None:
        self.found, self.home, self.real = found, home, real

    def __call__(self, there: Tensor) -> None:
        self.found[self.home] = there[self.real]


class _Ranked:
    """Keeps the effective ranks of a state, at the tokens that are no padding."""

    def __init__(self, found: list[Tensor], real: Tensor) -> None:
        self.found, self.real = found, real

    def __call__(self, there: Tensor) -> None:
        self.found.append(torch.stack(effective_ranks(there[self.real])))
