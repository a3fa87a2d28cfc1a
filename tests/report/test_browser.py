"""The page in a real browser: nothing complains, nothing is fetched, every chart is drawn and answers the mouse."""

from __future__ import annotations

import pytest

from deep_delta.models.variants import VARIANTS

DRAWN = "Number((document.documentElement || {dataset: {}}).dataset.drawn || 0)"
NUM_FIGURES = "document.querySelectorAll('figure').length"
GRADIENTS = """
[...document.querySelectorAll('.live [fill^="url("]')].map((box) => {
  const gradient = document.getElementById(box.getAttribute('fill').split('#')[1].replace(/["')]/g, ''));
  return gradient !== null && gradient.closest('.live') !== null;
})
"""
CENTRE = """
(() => {
  const box = [...document.querySelectorAll('figure')].find((one) => one.ariaLabel === NAME)
    .querySelector('.live svg .SELECTOR');
  box.scrollIntoView({block: 'center'});
  const place = box.getBoundingClientRect();
  return [place.x + place.width / 2, place.y + place.height / 2, place.width];
})()
"""


def centre(shown, name, selector):
    return shown.ask(CENTRE.replace("NAME", repr(name)).replace("SELECTOR", selector))


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 820, 1440])
def test_every_chart_is_drawn_without_a_complaint_or_a_request(browser, page, width):
    shown = browser.open(page, width=width)
    shown.wait(f"{DRAWN} > 0")
    assert shown.ask(DRAWN) == shown.ask(NUM_FIGURES) > 20
    assert shown.complaints() == []
    assert shown.requests() == [page.as_uri()]
    marks = shown.ask(
        "[...document.querySelectorAll('.live svg')].map((svg) => svg.querySelectorAll('.role-mark path').length)"
    )
    assert len(marks) == shown.ask(NUM_FIGURES)
    assert min(marks) > 0
    gradients = shown.ask(GRADIENTS)
    assert gradients
    assert all(gradients), "the colours of a heat map have a legend"
    assert shown.ask("[...document.querySelectorAll('.still')].every((one) => one.offsetHeight === 0)")
    assert shown.ask("document.documentElement.scrollWidth <= innerWidth"), "the page scrolls sideways"
    widest = shown.ask("Math.max(...[...document.querySelectorAll('.live svg')].map((s) => s.clientWidth))")
    assert widest <= width


@pytest.mark.slow
def test_pointing_at_a_curve_shows_its_values(browser, page):
    shown = browser.open(page)
    shown.wait(f"{DRAWN} > 0")
    x, y, _ = centre(shown, "Validation loss", "layer_1_marks path")
    tooltip = "(document.querySelector('#vg-tooltip-element.visible') || {}).innerText || ''"
    shown.point_at(x - 20, y)
    shown.point_at(x, y)
    text = shown.wait(tooltip)
    assert text.split()[:2] in [["variant", slug] for slug in VARIANTS], text
    assert any(f"{step}" in text for step in range(20, 401, 20)), text
    assert "mean" in text


@pytest.mark.slow
def test_zoom_and_hiding_a_variant_redraw(browser, page):
    shown = browser.open(page)
    shown.wait(f"{DRAWN} > 0")
    figure = "[...document.querySelectorAll('figure')].find((one) => one.ariaLabel === 'Training loss')"
    labels = (
        f"[...{figure}.querySelectorAll('.live .role-axis-label text')].map((one) => one.textContent).sort().join()"
    )
    lines = f"{figure}.querySelectorAll('.live .layer_1_marks path').length"
    whole = shown.ask(labels)
    shown.ask(f"{figure}.querySelector('[data-zoom=\"2\"]').click()")
    shown.wait(f"{labels} !== {whole!r}")
    shown.ask(f"{figure}.querySelector('[data-zoom=\"0\"]').click()")
    shown.wait(f"{labels} === {whole!r}")
    assert shown.ask(lines) == 6
    shown.ask("document.querySelector('input[value=\"ddl-ec\"]').click()")
    shown.wait(f"{lines} === 5")
    shown.ask("document.querySelector('input[value=\"ddl-ec\"]').click()")
    shown.wait(f"{lines} === 6")
    assert shown.complaints() == []


@pytest.mark.slow
def test_without_scripts_and_printed_the_pictures_show(browser, page):
    shown = browser.open(page, scripts=False)
    shown.wait("document.readyState === 'complete'")
    pictures = "[...document.querySelectorAll('.still svg')].filter((svg) => svg.getBoundingClientRect().height > 50)"
    assert shown.ask(f"{pictures}.length") == shown.ask(NUM_FIGURES) > 20
    assert shown.ask("document.querySelectorAll('.live svg').length") == 0
    assert shown.ask("[...document.querySelectorAll('.legend input, .zoom')].every((one) => one.offsetWidth === 0)")
    assert shown.requests() == [page.as_uri()]
    scripted = browser.open(page)
    scripted.wait(f"{DRAWN} > 0")
    scripted.call("Emulation.setEmulatedMedia", media="print")
    assert scripted.ask(f"{pictures}.length") == scripted.ask(NUM_FIGURES)
    assert scripted.ask("[...document.querySelectorAll('.live')].every((one) => one.offsetHeight === 0)")


@pytest.mark.slow
def test_dark_mode_keeps_the_ink_readable(browser, page):
    shown = browser.open(page)
    shown.wait(f"{DRAWN} > 0")
    shown.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    ground = "getComputedStyle(document.body).backgroundColor"
    ink = "getComputedStyle(document.querySelector('.live svg text')).fill"
    light = "((c) => c.match(/[0-9.]+/g).slice(0, 3).reduce((sum, one) => sum + Number(one), 0) / 3)"
    assert shown.ask(f"{light}({ground})") < 60
    assert shown.ask(f"{light}({ink})") > 180
