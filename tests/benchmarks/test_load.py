from __future__ import annotations

import os

import pytest

from deep_delta.benchmarks.load import LoadMeter

TICKS = os.sysconf("SC_CLK_TCK")


class Fake:
    """A machine of which every second is written down: ours, others' and stolen."""

    def __init__(self, path, *, others=0.0, stolen=0.0, mine=0.0):
        self.path, self.others, self.stolen, self.mine = path, others, stolen, mine
        self.now = 0.0
        self.pass_time(1.0)

    def pass_time(self, seconds):
        self.now += seconds
        user = round((self.others + self.mine) * self.now * TICKS)
        self.path.write_text(
            f"cpu  {user} 0 0 {round(9 * self.now * TICKS)} 7 0 0 {round(self.stolen * self.now * TICKS)}\ncpu0 1\n"
        )

    def meter(self, **fields):
        return LoadMeter(
            stat=self.path,
            own=lambda: self.mine * self.now,
            clock=lambda: self.now,
            sleep=self.pass_time,
            **fields,
        )


def problem(fake, seconds=10.0):
    meter = fake.meter()
    before = meter.read()
    fake.pass_time(seconds)
    return meter.problem_since(before)


def test_what_we_do_ourselves_is_no_load(tmp_path):
    assert problem(Fake(tmp_path / "stat", mine=2.0)) is None


@pytest.mark.parametrize("who", ["others", "stolen"])
def test_others_and_a_hypervisor_are(who, tmp_path):
    assert problem(Fake(tmp_path / "stat", mine=1.0, **{who: 0.8})) == "something else kept 0.8 cores busy"


def test_a_little_is_allowed(tmp_path):
    assert problem(Fake(tmp_path / "stat", others=0.05)) is None


def test_waiting_ends_when_it_is_quiet(tmp_path):
    fake = Fake(tmp_path / "stat", others=1.0)
    meter = fake.meter(patience=3.0)
    assert meter.wait_for_quiet() == "something else kept 0.9 cores busy"
    assert fake.now == pytest.approx(4.0)
    fake.others = 0.0
    fake.pass_time(0)
    assert meter.wait_for_quiet() is None
    assert fake.now == pytest.approx(4.3)


@pytest.mark.parametrize("content", [None, "", "cpu\n", "cpu  0 0 0 0 0 0 0 0\n", "nonsense here\n"], ids=repr)
def test_a_system_that_does_not_tell_is_not_checked(content, tmp_path):
    stat = tmp_path / "stat"
    if content is not None:
        stat.write_text(content)
    meter = LoadMeter(stat=stat)
    assert (meter.read(), meter.wait_for_quiet()) == (None, None)
    assert str(meter).startswith("not checked")
