"""One intervention while it is measured: its effect, its size, and the controls that have the same size."""

# B windows, T time, V value channels, D width

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from deep_delta.interventions.changes import Put, Setting, along_random, put_at, rescaled
from deep_delta.interventions.effects import Tally
from deep_delta.interventions.subject import Clean, Home, Subject, Window, norms, place
from deep_delta.runs.inspection import Control, Intervention, InterventionRow

Advance = Callable[[], None]
"""Called after each forward pass, for a progress bar."""


@dataclass
class Measurement:
    """One intervention while it is measured."""

    intervention: Intervention
    homes: list[Home]
    subject: Subject
    other: Home | None = None
    """the random layer"""
    size: Tensor = field(default_factory=lambda: torch.empty(0))
    """‖ΔX‖/‖X‖ [B, T] of the present window"""
    change: Tensor = field(default_factory=lambda: torch.empty(0))
    """ΔX [B, T, D, V] of the present window"""
    sizes: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        number = self.subject.documents.num_documents
        self.effect, self.whole = Tally(number), Tally(number)
        self.direction, self.layer, self.stranger = Tally(number), Tally(number), Tally(number)

    def run(self, setting: Setting, window: Window, clean: Clean, whole: dict[Intervention, Tensor]) -> None:
        """The intervention itself, and the whole sublayer with it; `whole` has the latter for other interventions."""
        put: Put = []
        for home in self.homes:
            put += put_at(self.intervention, home, setting, window, clean)
        if len(self.homes) == 1:
            put.append((place(self.homes[0], "hook_write"), partial(self._note_size, window, clean)))
        patched = self.subject.run(window, put)
        self.effect.add(clean.log_probabilities, patched, window.targets, window.document)
        if len(self.homes) != 1:
            return
        removed = self.intervention.model_copy(update={"what": "sublayer_removed", "from_layer": None, "seed": 0})
        if self.intervention.what == "sublayer_removed":
            whole[removed] = patched
        if removed not in whole:
            whole[removed] = self.subject.run(window, put_at(removed, self.homes[0], setting, window, clean))
        self.whole.add(clean.log_probabilities, whole[removed], window.targets, window.document)

    def run_controls(
        self, setting: Setting, window: Window, clean: Clean, fresh: tuple[Setting, Clean], advance: Advance
    ) -> None:
        """The three controls on the same window."""
        (home,) = self.homes
        along = along_random(self.change, setting.generator(self.intervention, home))
        put: Put = [(place(home, "hook_write"), lambda write: write + along)]
        self._control(self.direction, self.subject, put, window, clean)
        advance()
        if self.other is not None:
            put = put_at(self.intervention, self.other, setting, window, clean)
            self._control(self.layer, self.subject, [*put, self._of_this_size(self.other, clean)], window, clean)
        advance()
        stranger, stranger_clean = fresh
        put = put_at(self.intervention, home, stranger, window, stranger_clean)
        put = [*put, self._of_this_size(home, stranger_clean)]
        self._control(self.stranger, stranger.subject, put, window, stranger_clean)
        advance()

    def result(self, controls: bool) -> InterventionRow:
        effect = self.effect.effect()
        if len(self.homes) != 1:
            return InterventionRow(intervention=self.intervention, size=None, effect=effect)
        sizes = torch.cat(self.sizes)
        size = sizes.double().mean().item() if len(sizes) else 0.0
        is_whole = self.intervention.what == "sublayer_removed"
        row = InterventionRow(
            intervention=self.intervention,
            size=size,
            effect=effect,
            whole_sublayer=None if is_whole else self.whole.effect(),
        )
        if not controls or size == 0:
            return row
        (home,) = self.homes
        return row.model_copy(
            update={
                "random_direction": Control(effect=self.direction.effect(), layer=home[0], sublayer=home[1]),
                "random_layer": None
                if self.other is None
                else Control(effect=self.layer.effect(), layer=self.other[0], sublayer=self.other[1]),
                "untrained": Control(effect=self.stranger.effect(), layer=home[0], sublayer=home[1]),
            }
        )

    def _note_size(self, window: Window, clean: Clean, write: Tensor) -> None:
        (home,) = self.homes
        self.change = write - clean.write[home]
        norm = clean.norm[home]
        self.size = torch.where(norm > 0, norms(self.change) / norm, 0.0)
        self.sizes.append(self.size[window.real].cpu())

    def _of_this_size(self, home: Home, clean: Clean) -> tuple[str, Callable[[Tensor], Tensor]]:
        """Last at a sublayer: whatever was changed there gets the size of this intervention."""
        size = self.size * clean.norm[home]
        return place(home, "hook_write"), lambda write: rescaled(write, clean.write[home], size)

    @staticmethod
    def _control(tally: Tally, subject: Subject, put: Put, window: Window, clean: Clean) -> None:
        tally.add(clean.log_probabilities, subject.run(window, put), window.targets, window.document)
