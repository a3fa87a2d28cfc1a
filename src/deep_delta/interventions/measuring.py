"""Interventions on a model, each with its effect and with the controls beside it."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from deep_delta.errors import ConfigError
from deep_delta.interventions.changes import Setting, homes_of
from deep_delta.interventions.documents import class_code
from deep_delta.interventions.measurement import Advance, Measurement
from deep_delta.interventions.subject import Subject
from deep_delta.models.config import DdlConfig
from deep_delta.models.transformer import DdlTransformer
from deep_delta.runs.inspection import CHANGES, Change, Intervention, InterventionRow, SublayerName


def default_interventions(config: DdlConfig, layers: Sequence[int], *, quick: bool = False) -> list[Intervention]:
    """Those that make sense for a residual: at each sublayer of these layers, and some at every sublayer at once.

    quick: gates at 0 and at their mean, a random direction and the whole sublayer.
    """
    gated = config.residual in ("delta", "write_only")
    changes: list[Change] = list(CHANGES) if gated else ["sublayer_removed"]
    if config.residual == "write_only":
        changes = [what for what in changes if what not in ("erase_only", "write_only")]
    if config.num_layers == 1:
        changes = [what for what in changes if what != "direction_of_layer"]
    everywhere: list[Change] = ["gate_at_most_1", "gate_1", "gate_mean"] if gated else []
    if quick:
        kept = ("gate_0", "gate_mean", "direction_random", "sublayer_removed")
        changes, everywhere = [what for what in changes if what in kept], everywhere[:1]
    found = [Intervention(what=what) for what in everywhere]
    sublayers: tuple[SublayerName, ...] = ("mixer", "mlp")
    for layer in layers:
        for sublayer in sublayers:
            for what in changes:
                other = (layer + config.num_layers // 2) % config.num_layers if what == "direction_of_layer" else None
                found.append(Intervention(what=what, layer=layer, sublayer=sublayer, from_layer=other))
    return found


def untrained(model: DdlTransformer, seed: int = 0) -> DdlTransformer:
    """A model of the same configuration with fresh parameters, on the same device and of the same dtype."""
    like = next(model.parameters())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = DdlTransformer(model.config)
    return fresh.to(like.device, like.dtype).eval()


def num_passes(subject: Subject, interventions: Sequence[Intervention], *, controls: bool = True) -> int:
    """How often `measure_interventions` will advance."""
    windows = sum(1 for _ in subject.windows())
    alone = sum(len(homes_of(one, subject)) == 1 for one in interventions)
    return windows * (len(interventions) + 3 * alone * controls)


def measure_interventions(
    subject: Subject,
    interventions: Sequence[Intervention],
    *,
    controls: bool = True,
    seed: int = 0,
    advance: Advance = lambda: None,
) -> list[InterventionRow]:
    """A row for each intervention, in their order.

    Every control changes a state by ‖ΔX‖/‖X‖ of the intervention, token by token: along a random direction at the same
    sublayer; as the same intervention at another layer that `seed` draws; and as the same intervention in a model with
    fresh parameters, measured against that model. Where the intervention changes nothing at a token, nor do they.

    Raises:
        ConfigError: an intervention names a layer, class or place that the model does not have.
        NumericsError: a prediction is not finite.
    """
    for one in interventions:
        check(one, subject)
    setting = Setting(subject, subject.gates() if subject.gated else {})
    fresh = None
    if controls:
        stranger = Subject(untrained(subject.model, seed), subject.documents)
        fresh = Setting(stranger, stranger.gates() if stranger.gated else {})
    rows = [Measurement(one, homes_of(one, subject), subject) for one in interventions]
    draw = random.Random(seed)
    for row in rows:
        others = [home for home in subject.homes if len(row.homes) == 1 and home[1] == row.homes[0][1]]
        others = [home for home in others if home[0] not in (row.homes[0][0], row.intervention.from_layer)]
        row.other = draw.choice(others) if others else None
    for window in subject.windows():
        clean = subject.clean(window)
        stranger_clean = fresh.subject.clean(window) if fresh else None
        whole: dict[Intervention, Tensor] = {}
        for row in rows:
            row.run(setting, window, clean, whole)
            advance()
            if fresh and stranger_clean and len(row.homes) == 1:
                row.run_controls(setting, window, clean, (fresh, stranger_clean), advance)
    return [row.result(controls) for row in rows]


def check(intervention: Intervention, subject: Subject) -> None:
    """`ConfigError` unless the model has what an intervention names."""
    config = subject.model.config
    for field_name, layer in (("layer", intervention.layer), ("from_layer", intervention.from_layer)):
        if layer is not None and layer >= config.num_layers:
            raise ConfigError(f"{field_name} {layer}: the model has the layers 0 to {config.num_layers - 1}")
    if intervention.what != "sublayer_removed" and not subject.gated:
        raise ConfigError(f"{intervention.what} needs gates, and residual {config.residual} has none")
    if intervention.what in ("erase_only", "write_only") and config.residual == "write_only":
        raise ConfigError(f"{intervention.what} takes erasing and writing apart, and residual write_only never erases")
    T = subject.documents.ids.shape[1]
    if intervention.positions is not None and not any(position < T for position in intervention.positions):
        raise ConfigError(f"none of the positions {list(intervention.positions)} is in a window of {T} tokens")
    if intervention.token_class is not None:
        class_code(subject.documents.classes, intervention.token_class)
