"""A saved inspection: what the gates of one model did on a text, and what its loss became when they were forced."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from deep_delta.runs.comparison import Origin
from deep_delta.runs.manifest import DataIdentity
from deep_delta.runs.record import Record
from deep_delta.runs.result import Result

SublayerName = Literal["mixer", "mlp"]

Change = Literal[
    "gate_0",
    "gate_1",
    "gate_2",
    "gate_mean",
    "gate_resampled",
    "gate_at_most_1",
    "erase_only",
    "write_only",
    "direction_random",
    "direction_of_layer",
    "sublayer_removed",
]

CHANGES: dict[Change, str] = {
    "gate_0": "β = 0: nothing is erased or written",
    "gate_1": "β = 1: what is read along k is replaced by v",
    "gate_2": "β = 2: reflection",
    "gate_mean": "β = its mean over the tokens",
    "gate_resampled": "β of other tokens, by a permutation of all tokens",
    "gate_at_most_1": "β above 1 becomes 1",
    "erase_only": "v = 0: what is read along k is erased, and nothing is written",
    "write_only": "what is read along k is taken for 0: v is written, and nothing is erased",
    "direction_random": "the same change of the readout, along a random direction for each token",
    "direction_of_layer": "the same change of the readout, along the direction of another layer (←) at the same token",
    "sublayer_removed": "the state passes by the whole sublayer unchanged",
}
"""What an intervention does, in the order of the tables."""

_Place = Annotated[int, Field(ge=0)]


class Intervention(Record):
    """One change to what a model's sublayers do to their state, at the tokens that are named."""

    what: Change
    layer: _Place | None = None
    """None: every layer at once"""
    sublayer: SublayerName | None = None
    """None: both sublayers of the layer"""
    positions: tuple[_Place, ...] | None = None
    """token positions in their document's window, from 0; None: all"""
    token_class: str | None = None
    """only at tokens of this class (see `GateRow`); None: all"""
    from_layer: _Place | None = None
    """of direction_of_layer: whose direction is taken, of the same kind of sublayer"""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """of what is drawn"""

    @model_validator(mode="after")
    def _whose_direction(self) -> Self:
        if (self.what == "direction_of_layer") != (self.from_layer is not None):
            raise ValueError("from_layer names the layer of direction_of_layer, and belongs to no other change")
        return self


class Estimate(Record):
    """A mean over documents with its 95% interval (Student's t); low and high are None for a single document."""

    mean: float
    low: float | None
    high: float | None


class Effect(Record):
    """The patched model against the same model as it is, per predicted token."""

    loss: Estimate
    """change, nats per token: above 0 the patch does harm"""
    logit_difference: Estimate | None
    """change of (logit of the right token − logit of the wrong token that was likeliest before); None where there is
    no wrong token"""
    kl: Estimate
    """KL(as it is ‖ patched), nats per token"""


class Control(Record):
    """A change of the same size that should do less, if the intervention's effect is due to what it changes."""

    effect: Effect
    layer: int
    sublayer: SublayerName
    """where it was applied"""


class InterventionRow(Record):
    """An intervention and its effect, and the controls without which the effect says nothing.

    The controls change the state by as much as the intervention does, token by token, relative to the state's norm.
    They are None for an intervention at several sublayers, which has no one size, and where nothing changes.
    """

    intervention: Intervention
    size: float | None
    """mean norm of the change of the state, relative to the norm of the state; None at several sublayers"""
    effect: Effect
    random_direction: Control | None = None
    """the same sublayer, changed along a random direction"""
    random_layer: Control | None = None
    """the same intervention at another layer drawn at random"""
    untrained: Control | None = None
    """the same intervention in a model of the same configuration with fresh parameters"""
    whole_sublayer: Effect | None = None
    """the whole sublayer removed: what a patch of one direction can wake is seen against it"""


class GateRow(Record):
    """The gates of one sublayer over some of its tokens. A gate belongs to the token that is read where it acts."""

    layer: int
    sublayer: SublayerName
    group: Literal["all", "class", "position"]
    name: str
    """all; a token class; or a range of positions, as 4-15"""
    tokens: int
    beta_mean: float
    beta_std: float
    share_above_1: float


class DirectionReuse(Record):
    """Mean |cos| between the directions k of two sublayers at the same token; 1 on the diagonal."""

    sublayers: tuple[tuple[int, SublayerName], ...]
    cosines: tuple[tuple[float, ...], ...]
    """a row and a column for each of `sublayers`"""
    random: float
    """the mean |cos| of two random directions of this width"""


class RankRow(Record):
    """How many of the state's V value channels differ, mean over tokens; between 1 and V.

    From the singular values s of X [D, V] at each token, with p = s² / Σ s².
    """

    layer: int
    place: Literal["pre", "mid", "post"]
    """before the mixer's rewrite, between the two, after the MLP's"""
    participation: float
    """1 / Σ p²"""
    entropy: float
    """exp(−Σ p log p)"""
    d_value: int
    """V"""


class InspectedModel(Record):
    """Which model."""

    path: str
    variant: str
    seed: int
    step: int
    residual: str


class Inspection(Result):
    """One run of `ddl inspect`."""

    noun = "inspection"
    command = "ddl inspect"

    kind: Literal["inspection"] = "inspection"
    format_version: Literal[1] = 1
    date: str
    """UTC, ISO 8601"""
    origin: Origin
    model: InspectedModel
    data: DataIdentity
    split: str
    documents: int
    tokens: int
    """predicted, in all documents"""
    loss: float
    """of the model as it is, nats per token"""
    note: str | None = None
    """what could not be looked at, and why"""
    gates: tuple[GateRow, ...]
    directions: DirectionReuse | None
    """None for a model without directions"""
    ranks: tuple[RankRow, ...]
    """empty where there is one value channel"""
    interventions: tuple[InterventionRow, ...]
