import io

import pytest
from rich.console import Console

from deep_delta.cli import console, tables
from deep_delta.runs.comparison import Ranking, Standing


@pytest.fixture
def screen(monkeypatch):
    made = Console(file=io.StringIO(), width=80)
    monkeypatch.setattr(console, "out", made)
    monkeypatch.setattr(tables, "out", made)
    return made.file


def gates(*means):
    return [{"layer": 0, "sublayer": "mixer", "beta_mean": mean, "beta_std": 0.25} for mean in means]


@pytest.mark.parametrize("name", ["ddl", "a-run-with-a-long-name/ddl-cc"])
@pytest.mark.parametrize("number", [1, 5, 12])
def test_gates_fit_the_screen_however_many_models_there_are(name, number, screen):
    tables.show_gates({f"{name}@{index}": gates(index / 10) for index in range(number)})
    shown = screen.getvalue()
    assert max(len(line) for line in shown.splitlines()) <= 80
    assert all(f"{name}@{index} " in shown and f"{index / 10:.2f}±0.25" in shown for index in range(number))


def test_models_without_gates_show_nothing(screen):
    tables.show_gates({"baseline": []})
    assert screen.getvalue() == ""


def ranking(*unresolved, rule="resolved where …"):
    apart = {name: [pair.replace(name, "") for pair in unresolved if name in pair] for name in "abc"}
    standings = [
        Standing(rank=rank, variant=name, values=(1.0,), mean=1.0, not_resolved_from=tuple(apart[name]))
        for rank, name in enumerate("abc", start=1)
    ]
    return Ranking(measure="loss", rule=rule, standings=tuple(standings))


def test_what_is_not_resolved_is_said():
    assert tables.unresolved(ranking()) == "resolved where …"
    assert tables.unresolved(ranking("ac")) == "not resolved: a ~ c\nresolved where …"
    assert tables.unresolved(ranking("ab", "ac", "bc")) == "no pair is resolved\nresolved where …"
    assert tables.unresolved(ranking("ab", rule="not resolved: one seed")) == "not resolved: one seed"
