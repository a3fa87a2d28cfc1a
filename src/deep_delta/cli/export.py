"""`ddl export`: the numbers of runs as CSV tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deep_delta.cli.options import Parser
from deep_delta.errors import ConfigError

_DESCRIPTION = """
Write what runs have logged as CSV files, one observation a row, so that a spreadsheet, pandas or R reads them at once:
curves.csv (loss, validation, learning rate, gradient norm, tokens/s at every step; with the tokens, FLOPs and seconds
up to there), spectra.csv (what the gates did in every sublayer at every evaluation), accuracies.csv (of tasks),
ranking.csv, cost.csv and seeds.csv. RUN is what `ddl train` wrote, a folder of such runs, or a saved benchmark.
"""

_EXAMPLES = """
  ddl export runs/book --csv tables
  ddl export runs/demo-1 before.json --csv tables
"""


def run(arguments: Sequence[str]) -> None:
    parser = Parser("export RUN… --csv DIR", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder, a folder of runs, a saved benchmark")
    parser.add_argument("--csv", metavar="DIR", help="the new folder for the tables")
    options = parser.parse(arguments)
    if options.csv is None:
        raise ConfigError("say where the tables go, as --csv tables")

    from deep_delta.cli.console import notes, show_table
    from deep_delta.explore import open_paths
    from deep_delta.explore.export import export_csv

    with notes.status("reading and writing"):
        exploration = open_paths(options.runs).read_all().require_content()
        written = export_csv(exploration, Path(options.csv))
    for notice in exploration.notices:
        notes.print(notice, markup=False, soft_wrap=True)
    show_table(f"Tables in {options.csv}", ["<file", "rows"], [[name, f"{rows:,}"] for name, rows in written.items()])
