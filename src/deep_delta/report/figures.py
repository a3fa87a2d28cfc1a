"""Charts as files for papers: SVG, and PNG at twice the size."""

from __future__ import annotations

import re
from pathlib import Path

from deep_delta.errors import ConfigError
from deep_delta.explore import Exploration
from deep_delta.report.chart import Detail
from deep_delta.report.drawing import figure_png, figure_svg
from deep_delta.report.sections import charts_of
from deep_delta.report.style import styles
from deep_delta.runs.storage import atomic_write, make_folder

_DETAIL = Detail(points=400, cells=4000)


def check_folder(folder: Path) -> None:
    """`ConfigError` for a folder with something in it."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} is there and not empty; choose a new folder for the figures")


def write_figures(exploration: Exploration, folder: Path) -> list[str]:
    """Write NAME.svg and NAME.png of every chart into a new or empty folder, on white and with legends; the names.

    Where there are several experiments, a figure's name begins with its experiment's. `ConfigError` for a folder with
    something in it, `StorageError` from the disk.
    """
    check_folder(folder)
    make_folder(folder)
    looks = styles(variant.slug for variant in exploration.variants)
    names: list[str] = []
    for experiment in exploration.experiments:
        for chart in charts_of(experiment, looks, _DETAIL).all():
            prefix = f"{experiment.name}-" if len(exploration.experiments) > 1 else ""
            name = _unused(re.sub("[^A-Za-z0-9]+", "-", f"{prefix}{chart.name}").strip("-")[:100], names)
            atomic_write(folder / f"{name}.svg", figure_svg(chart))
            atomic_write(folder / f"{name}.png", figure_png(chart))
            names.append(name)
    return names


def _unused(name: str, taken: list[str]) -> str:
    found, number = name, 2
    while found in taken:
        found, number = f"{name}-{number}", number + 1
    return found
