"""A whole look at a model: its gates, directions and value channels, and what interventions do to its loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from deep_delta.interventions.gates import gate_rows, measure_states
from deep_delta.interventions.measurement import Advance
from deep_delta.interventions.measuring import measure_interventions
from deep_delta.interventions.subject import Subject, loss_of
from deep_delta.runs.inspection import DirectionReuse, GateRow, Intervention, InterventionRow, RankRow


class Findings(NamedTuple):
    """What `inspect_model` found; the fields of an `Inspection` that are about the model."""

    loss: float
    gates: list[GateRow]
    directions: DirectionReuse | None
    ranks: list[RankRow]
    interventions: list[InterventionRow]
    note: str | None


def inspect_model(
    subject: Subject,
    interventions: Sequence[Intervention],
    *,
    controls: bool = True,
    seed: int = 0,
    advance: Advance = lambda: None,
) -> Findings:
    """Look at a model on its documents; see `measure_interventions` for what may be wrong with the interventions."""
    rows = measure_interventions(subject, interventions, controls=controls, seed=seed, advance=advance)
    nats = 0.0
    for window in subject.windows():
        nats += loss_of(subject.run(window), window.targets).cpu().double().sum().item()
    gates = gate_rows(subject, subject.gates()) if subject.gated else []
    directions, ranks = measure_states(subject)
    note = None
    if not subject.gated:
        note = (
            f"residual {subject.model.config.residual} has no gates and no directions: "
            "only whole sublayers can be removed"
        )
    return Findings(nats / int(subject.documents.asked.sum()), gates, directions, ranks, rows, note)
