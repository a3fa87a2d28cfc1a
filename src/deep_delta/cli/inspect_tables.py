"""The tables of an inspection: gates, directions, value channels, and what interventions do."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from rich.text import Text

from deep_delta.cli.console import Cell, out, show_fitting
from deep_delta.runs.inspection import (
    CHANGES,
    Control,
    DirectionReuse,
    Effect,
    Estimate,
    GateRow,
    Inspection,
    Intervention,
    InterventionRow,
    RankRow,
)

_KEY = (
    "loss: change in nats per token ± half its 95% interval over documents, dim where that holds 0. logits: change of "
    "the right token's logit against the likeliest wrong one's. KL: nats from the model as it is. other k, layer, "
    "fresh: the loss changes by this when the state changes by as much along a random direction, by the same change in "
    "another layer, and in an untrained model. whole: when the whole sublayer is removed. What does no more than these "
    "is not explained by what it changes; and a change of one direction can wake pathways that the model never uses."
)


def show_inspection(found: Inspection) -> None:
    """All of it, in 80 columns."""
    out.print(
        f"{found.model.variant}, step {found.model.step}, on {found.tokens:,} tokens of {found.data.name} "
        f"({found.split}) in {found.documents} document{'s' * (found.documents != 1)}: loss {found.loss:.4f}"
    )
    if found.documents == 1:
        out.print(Text("A single document gives no intervals: look at a longer text, or at more of it.", "yellow"))
    out.print()
    if found.note:
        out.print(Text(found.note, "yellow"))
        out.print()
    _show_gates(found.gates, found.interventions)
    if found.directions is not None:
        _show_directions(found.directions)
    if found.ranks:
        _show_ranks(found.ranks)
    _show_interventions(found.interventions)


def _home(row: GateRow) -> str:
    return f"{row.layer} {row.sublayer}"


def _show_gates(gates: Sequence[GateRow], interventions: Sequence[InterventionRow]) -> None:
    if not gates:
        return
    clamped = {
        (row.intervention.layer, row.intervention.sublayer): row.effect.loss
        for row in interventions
        if row.intervention.what == "gate_at_most_1" and not _limits(row.intervention)
    }
    rows: list[list[Cell]] = []
    for row in (row for row in gates if row.group == "all"):
        needed = clamped.get((row.layer, row.sublayer))
        spread = f"{row.beta_mean:.2f}±{row.beta_std:.2f}"
        rows.append([_home(row), spread, _percent(row.share_above_1), _spread(needed) if needed else "–"])
    if everywhere := clamped.get((None, None)):
        rows.append(["all", "", "", _spread(everywhere)])
    note = "mean ± spread over tokens; the last column is what the loss becomes more where β above 1 is made 1"
    show_fitting("Gates β", ["<sublayer", "β", "β > 1", "loss if β ≤ 1"], rows, note)
    for group, title in (("class", "Gates β by token class"), ("position", "Gates β by position")):
        _show_group(title, [row for row in gates if row.group == group])


def _show_group(title: str, gates: Sequence[GateRow]) -> None:
    """A row a sublayer and a column a group of tokens; the last row counts tokens."""
    names = list(dict.fromkeys(row.name for row in gates))
    rows: list[list[Cell]] = []
    counts: dict[str, int] = {}
    for home, group in groupby(gates, key=_home):
        means = {row.name: f"{row.beta_mean:.2f}" for row in group}
        rows.append([home, *(means.get(name, "–") for name in names)])
    for row in gates:
        counts[row.name] = row.tokens
    rows.append([Text("tokens", "dim"), *(Text(f"{counts[name]:,}", "dim") for name in names)])
    if names:
        show_fitting(title, ["<sublayer", *names], rows)


def _show_directions(found: DirectionReuse) -> None:
    """The whole matrix where it fits, else the sublayer that is most alike."""
    names = [f"{layer} {sublayer}" for layer, sublayer in found.sublayers]
    note = f"mean |cos| between directions k at the same token; random directions have {found.random:.2f}"
    if 10 + 6 * len(names) <= out.width:
        columns = ["<sublayer", *(f"{layer}{sublayer[1]}" for layer, sublayer in found.sublayers)]
        rows: Iterable[list[Cell]] = (
            [name, *(f"{cosine:.2f}" for cosine in cosines[: place + 1]), *[""] * (len(names) - place - 1)]
            for place, (name, cosines) in enumerate(zip(names, found.cosines, strict=True))
        )
        show_fitting("Reuse of directions", columns, rows, f"{note}; 0i is 0 mixer, 0l is 0 mlp")
        return
    pairs = []
    for place, (name, cosines) in enumerate(zip(names, found.cosines, strict=True)):
        cosine, other = max((cosine, other) for other, cosine in enumerate(cosines) if other != place)
        pairs.append([name, names[other], f"{cosine:.2f}"])
    show_fitting("Reuse of directions", ["<sublayer", "<most like", "mean |cos|"], pairs, note)


def _show_ranks(ranks: Sequence[RankRow]) -> None:
    rows: list[list[Cell]] = []
    for layer, group in groupby(ranks, key=lambda row: row.layer):
        found = {row.place: f"{row.participation:.2f} {row.entropy:.2f}" for row in group}
        rows.append([str(layer), *(found.get(place, "") for place in ("pre", "mid", "post"))])
    note = f"of {ranks[0].d_value} value channels of the state, per token: participation ratio, and exp of the entropy"
    show_fitting("Effective rank", ["<layer", "before the mixer", "before the MLP", "at the end"], rows, note)


def _show_interventions(rows: Sequence[InterventionRow]) -> None:
    """A table for each kind of change, in the order of `CHANGES`."""
    shown = False
    for what, about in CHANGES.items():
        of_kind = [row for row in rows if row.intervention.what == what]
        if of_kind:
            columns = ["<sublayer", "loss", "logits", "KL", "other k", "layer", "fresh", "whole"]
            show_fitting(what, columns, [_cells(row) for row in of_kind], about)
            shown = True
    if shown:
        out.print(Text(_KEY, "dim"))


def _cells(row: InterventionRow) -> list[Cell]:
    effect = row.effect
    return [
        _label(row.intervention),
        _spread(effect.loss),
        _signed(effect.logit_difference),
        f"{effect.kl.mean:.3f}",
        *(_control(control) for control in (row.random_direction, row.random_layer, row.untrained)),
        _whole(row.whole_sublayer),
    ]


def _label(one: Intervention) -> str:
    home = " ".join(str(part) for part in (one.layer, one.sublayer) if part is not None) or "all"
    if one.from_layer is not None:
        home += f"←{one.from_layer}"
    return " ".join(part for part in (home, _limits(one)) if part)


def _limits(one: Intervention) -> str:
    """Where an intervention acts beside its sublayer."""
    found = []
    if one.token_class is not None:
        found.append(f"at {one.token_class}")
    if one.positions is not None:
        shown = ",".join(map(str, one.positions))
        found.append(f"at {shown if len(shown) < 12 else f'{len(one.positions)} places'}")
    return " ".join(found)


def _spread(estimate: Estimate) -> Text:
    if estimate.low is None or estimate.high is None:
        return Text(f"{estimate.mean:+.3f}")
    unsure = estimate.low <= 0 <= estimate.high
    return Text(f"{estimate.mean:+.3f}±{(estimate.high - estimate.low) / 2:.3f}", "dim" if unsure else "")


def _signed(estimate: Estimate | None) -> str:
    return "–" if estimate is None else f"{estimate.mean:+.3f}"


def _control(control: Control | None) -> str:
    return "–" if control is None else _signed(control.effect.loss)


def _whole(effect: Effect | None) -> str:
    return "–" if effect is None else _signed(effect.loss)


def _percent(share: float) -> str:
    return f"{share:.1%}"
