"""Runs as one HTML page that needs nothing else, and as figures for papers. A skin of `explore`: knows no file format
and imports no torch. The charts are Vega-Lite specifications, which vl-convert draws and whose library it ships."""

from deep_delta.report.figures import write_figures
from deep_delta.report.page import build_page, write_page
from deep_delta.report.results import Sample

__all__ = ["Sample", "build_page", "write_figures", "write_page"]
