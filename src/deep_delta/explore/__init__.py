"""Looking without a screen: run folders and result files as series and tables. Imports no torch.

The terminal explorer and the HTML page are two skins of it; neither knows a file format. Whatever is missing, torn,
corrupt or of a newer version becomes one line in `Exploration.notices`, and the rest is shown.
"""

from deep_delta.explore.exploration import Experiment, Exploration, Variant, open_paths
from deep_delta.explore.line import Axis, Line, decimate, smooth
from deep_delta.explore.tables import Table
from deep_delta.explore.trace import MEASURES, Measure, Spectra, Status, Trace

__all__ = [
    "MEASURES",
    "Axis",
    "Experiment",
    "Exploration",
    "Line",
    "Measure",
    "Spectra",
    "Status",
    "Table",
    "Trace",
    "Variant",
    "decimate",
    "open_paths",
    "smooth",
]
