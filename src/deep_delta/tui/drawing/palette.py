"""Colours and marks. The colours of the RGB themes differ for the colour-blind too; the ANSI themes use the terminal's
sixteen colours and no others. Marks tell variants apart where colours cannot."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, get_args

from rich.style import Style

ThemeName = Literal["dark", "light", "ansi-dark", "ansi-light"]
THEMES: tuple[ThemeName, ...] = get_args(ThemeName)

MARKS = "●■▲◆○□△◇★"
SHADES = "·░▒▓█"
_LEVELS = 255  # of a heat map
_RGB = tuple[int, int, int]


@dataclass(frozen=True)
class Palette:
    """The styles of one theme."""

    name: ThemeName
    background: str
    """as style sheets name it"""
    foreground: str
    text: Style
    dim: Style
    title: Style
    chosen: Style
    """the row of a list that keys act on"""
    bar: Style
    tab: Style
    """the view that is shown, in the bar"""
    key: Style
    axis: Style
    grid: Style
    cursor: Style
    good: Style
    bad: Style
    warning: Style
    series: tuple[Style, ...]
    behind: tuple[Style, ...]
    """the same colours, for what lies behind a line"""
    ramp: tuple[_RGB, ...]
    """colours of a heat map from least to greatest; empty where there are only shades"""

    def line(self, number: int) -> Style:
        return self.series[number % len(self.series)]

    def shade(self, number: int) -> Style:
        return self.behind[number % len(self.behind)]

    def heat(self, place: float) -> str:
        """The colour at `place` in [0, 1] of the way, one of 256."""
        return _hex(_between(self.ramp, round(min(max(place, 0.0), 1.0) * _LEVELS) / _LEVELS))

    def halves(self, upper: float, lower: float | None) -> Style:
        """Of a half block: the colour of its upper half, and of its lower half where there is one."""
        levels = (round(min(max(place, 0.0), 1.0) * _LEVELS) for place in (upper, lower) if place is not None)
        return _halves(self.ramp, *levels)


@lru_cache(maxsize=8192)
def _halves(ramp: tuple[_RGB, ...], upper: int, lower: int | None = None) -> Style:
    color = _hex(_between(ramp, upper / _LEVELS))
    return Style(color=color, bgcolor=None if lower is None else _hex(_between(ramp, lower / _LEVELS)))


def mark(number: int) -> str:
    """Nine marks beside eight colours: 72 variants have a pair of their own."""
    return MARKS[number % len(MARKS)]


def palette(name: ThemeName, *, color: bool = True) -> Palette:
    """`color=False`: an ANSI theme's attributes alone (bold, reverse, dim)."""
    if name == "dark":
        return _rgb_palette(name, "#14171c", "#d8dee6", "#7d8793", "#242a33", "#343d4a", _ON_DARK, _DARK_RAMP)
    if name == "light":
        return _rgb_palette(name, "#ffffff", "#1f2328", "#6a737d", "#e9edf2", "#cfd8e3", _ON_LIGHT, _LIGHT_RAMP)
    return _ansi_palette(name, color)


# Okabe and Ito (2008) on a dark ground, blue lightened; on a light one moved until every pair differs for every eye
_ON_DARK = ("#e69f00", "#56b4e9", "#2bc492", "#f0e442", "#cc79a7", "#e8702a", "#6f9bff", "#b9c0c8")
_ON_LIGHT = ("#622a04", "#003dae", "#03673d", "#82952b", "#c907a0", "#ff2a03", "#418dc8", "#545c62")
# dark blue through grey to yellow: light and dark for every eye, in the manner of cividis
_DARK_RAMP: tuple[_RGB, ...] = ((16, 42, 92), (62, 84, 112), (118, 120, 122), (178, 164, 108), (255, 228, 92))
_LIGHT_RAMP: tuple[_RGB, ...] = ((246, 232, 178), (216, 190, 106), (142, 142, 128), (76, 96, 122), (14, 36, 88))


def _rgb_palette(
    name: ThemeName,
    ground: str,
    ink: str,
    faint: str,
    bar: str,
    chosen: str,
    series: tuple[str, ...],
    ramp: tuple[_RGB, ...],
) -> Palette:
    good, bad, warning = series[2], series[5], series[0]
    accent = series[1]
    grid = _mixed(faint, ground, 0.6)
    return Palette(
        name=name,
        background=ground,
        foreground=ink,
        text=Style(color=ink),
        dim=Style(color=faint),
        title=Style(color=ink, bold=True),
        chosen=Style(color=ink, bgcolor=chosen, bold=True),
        bar=Style(color=ink, bgcolor=bar),
        tab=Style(color=ground, bgcolor=accent, bold=True),
        key=Style(color=accent, bgcolor=bar, bold=True),
        axis=Style(color=faint),
        grid=Style(color=grid),
        cursor=Style(color=accent),
        good=Style(color=good),
        bad=Style(color=bad, bold=True),
        warning=Style(color=warning),
        series=tuple(Style(color=each) for each in series),
        behind=tuple(Style(color=_mixed(each, ground, 0.6)) for each in series),
        ramp=ramp,
    )


def _ansi_palette(name: ThemeName, color: bool) -> Palette:
    dark = name == "ansi-dark"
    bright = "bright_" if dark else ""

    def style(hue: str = "", *, plain: bool = False, bold: bool | None = None) -> Style:
        shown = hue if plain else bright + hue
        return Style(color=shown if color and hue else None, bold=bold)

    hues = ("yellow", "blue", "green", "magenta", "cyan", "red")
    series = [style(hue) for hue in hues] + [style(hue, plain=True, bold=not dark) for hue in ("cyan", "magenta")]
    return Palette(
        name=name,
        background="ansi_default",
        foreground="ansi_default",
        text=Style.null(),
        dim=Style(dim=True),
        title=style(bold=True),
        chosen=Style(reverse=True),
        bar=Style(reverse=True),
        tab=style(bold=True),
        key=Style(reverse=True, bold=True),
        axis=Style(dim=True),
        grid=Style(dim=True),
        cursor=style("cyan"),
        good=style("green"),
        bad=style("red", bold=True),
        warning=style("yellow"),
        series=tuple(series),
        behind=tuple(each + Style(dim=True, bold=False) for each in series),
        ramp=(),
    )


def _between(ramp: tuple[_RGB, ...], place: float) -> _RGB:
    at = min(max(place, 0.0), 1.0) * (len(ramp) - 1)
    index = min(int(at), len(ramp) - 2)
    red, green, blue = (
        round(one + (other - one) * (at - index)) for one, other in zip(ramp[index], ramp[index + 1], strict=True)
    )
    return red, green, blue


def _mixed(one: str, other: str, share: float) -> str:
    """`share` of `other` in `one`."""
    parts = [(int(one[at : at + 2], 16), int(other[at : at + 2], 16)) for at in (1, 3, 5)]
    red, green, blue = (round(mine + (theirs - mine) * share) for mine, theirs in parts)
    return _hex((red, green, blue))


def _hex(color: _RGB) -> str:
    return "#{:02x}{:02x}{:02x}".format(*color)
