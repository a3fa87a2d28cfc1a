"""Looking into a model and changing what it does: named places, interventions and their effects."""

from deep_delta.interventions.documents import Documents, task_documents, text_documents
from deep_delta.interventions.forward_pass import Replacement
from deep_delta.interventions.gates import effective_ranks, gate_rows, measure_states
from deep_delta.interventions.inspecting import Findings, inspect_model
from deep_delta.interventions.measuring import default_interventions, measure_interventions, untrained
from deep_delta.interventions.patching import patched, run_with, with_places
from deep_delta.interventions.places import place_names
from deep_delta.interventions.subject import Subject

__all__ = [
    "Documents",
    "Findings",
    "Replacement",
    "Subject",
    "default_interventions",
    "effective_ranks",
    "gate_rows",
    "inspect_model",
    "measure_interventions",
    "measure_states",
    "patched",
    "place_names",
    "run_with",
    "task_documents",
    "text_documents",
    "untrained",
    "with_places",
]
