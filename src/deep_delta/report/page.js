"use strict";
// Replaces each static picture by an interactive chart as wide as its place. The page is whole without this script.
(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const config = JSON.parse(document.getElementById("chart-config").textContent);
  const views = new Map();
  const hidden = new Set();

  // A column is a list, {same: value, n: rows}, or {words: [...], at: [index, ...]}.
  const unpacked = (column) =>
    Array.isArray(column) ? column
      : "same" in column ? Array(column.n).fill(column.same)
        : column.at.map((place) => column.words[place]);

  function rowsOf(columns) {
    const names = Object.keys(columns);
    const lists = names.map((name) => unpacked(columns[name]));
    return lists[0].map((_, row) => Object.fromEntries(names.map((name, place) => [name, lists[place][row]])));
  }

  async function draw(figure) {
    const chart = charts[figure.dataset.chart];
    const place = figure.querySelector(".live");
    place.hidden = false; // its width counts
    const spec = { ...chart.spec, data: { name: "rows" }, datasets: { rows: rowsOf(chart.columns) } };
    const drawn = await window.vegaEmbed(place, spec, {
      actions: false, ast: true, config, renderer: "svg", tooltip: { theme: "custom" },
    });
    views.set(figure, drawn.view);
    figure.classList.add("drawn");
    addZoom(figure, drawn.view);
  }

  function addZoom(figure, view) {
    const whole = view.scale("x").domain().map(Number);
    for (const button of figure.querySelectorAll("[data-zoom]")) {
      button.addEventListener("click", () => {
        const [first, last] = view.scale("x").domain().map(Number);
        const factor = Number(button.dataset.zoom);
        const middle = (first + last) / 2, half = (last - first) / 2 / factor;
        const isPart = factor && (middle - half > whole[0] || middle + half < whole[1]);
        const shown = [Math.max(whole[0], middle - half), Math.min(whole[1], middle + half)];
        view.signal("zoom_x", isPart ? shown : null).runAsync();
      });
    }
  }

  function toggle(box) {
    if (box.checked) hidden.delete(box.value); else hidden.add(box.value);
    for (const view of views.values()) {
      if ("hidden" in view.getState().signals) view.signal("hidden", [...hidden]).runAsync();
    }
    for (const same of document.querySelectorAll("input[data-variant]")) {
      if (same.value === box.value) same.checked = box.checked;
    }
  }

  async function start() {
    document.documentElement.classList.add("scripted");
    for (const box of document.querySelectorAll("input[data-variant]")) {
      box.addEventListener("change", () => toggle(box));
    }
    window.addEventListener("beforeprint", () => {
      for (const part of document.querySelectorAll("details")) part.open = true;
    });
    for (const figure of document.querySelectorAll("figure[data-chart]")) {
      await draw(figure);
      await new Promise((resolve) => setTimeout(resolve));
    }
    document.documentElement.dataset.drawn = String(views.size);
  }

  window.addEventListener("load", start);
})();
