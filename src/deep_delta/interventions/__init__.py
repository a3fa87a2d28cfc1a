"""Looking into a model and changing what it does: named places, interventions and their effects."""

from deep_delta.interventions.patching import Replacement, patched, run_with, with_places
from deep_delta.interventions.places import place_names

__all__ = ["Replacement", "patched", "place_names", "run_with", "with_places"]
