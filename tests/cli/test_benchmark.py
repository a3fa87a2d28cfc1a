"""The command from end to end: a tiny plan, planted slowness and wrongness, a clock that only the rows move."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial

import pytest

from deep_delta.benchmarks import ceilings, runner, suites
from deep_delta.benchmarks.case import Plan
from deep_delta.benchmarks.suites.operator import DELTA_UPDATE
from deep_delta.ops import depth_update as update
from deep_delta.ops.dispatch import Backend
from tests.benchmarks.conftest import BLIND, Machine

ROW = "operator/delta_update/planted/fp32/B1T4D4V2/forward"


class Planted:
    """A backend of the delta update that takes `seconds` and is off by `error`, and the plan that has it."""

    def __init__(self) -> None:
        self.machine = Machine()
        self.seconds, self.error = 1.0, 0.0

    def run(self, *args, **options):
        self.machine.now += self.seconds
        return update.op.run("fused", *args, **options) + self.error

    def reference(self, *args, **options):
        self.machine.now += 1.0
        return update.reference.delta_update(*args, **options)

    def plan(self, setting):
        operator = replace(DELTA_UPDATE, backends=update.BACKENDS)
        return Plan((operator.group("operator", "fp32", {"B": 1, "T": 4, "D": 4, "V": 2}),))


@pytest.fixture
def planted(monkeypatch):
    found = Planted()
    backends = (Backend("reference", found.reference), Backend("planted", found.run))
    monkeypatch.setattr(update, "BACKENDS", backends)
    monkeypatch.setitem(suites.PLANS, "operator", found.plan)
    monkeypatch.setattr(runner, "measure_ceilings", lambda precision, device: [])
    monkeypatch.setattr(runner, "Runner", partial(runner.Runner, meter=BLIND, clock=found.machine.clock))
    return found


@pytest.fixture
def saved(ddl, planted, tmp_path):
    """A benchmark that was saved while all was well."""
    code, _, err = ddl("benchmark", "--suite", "operator", "--save", "before.json")
    assert code == 0, err
    return tmp_path / "before.json"


def test_rows_are_shown_and_saved_with_what_made_them(ddl, planted, saved):
    content = json.loads(saved.read_text())
    assert [row["name"].rsplit("/", 1)[1] for row in content["rows"]] == ["forward"] * 2 + ["forward_backward"] * 2
    assert {"torch", "python"} <= set(content["origin"]["versions"])
    assert {"processor", "threads"} <= set(content["origin"]["hardware"])
    assert content["capabilities"][0].startswith("kernels ")
    code, out, _ = ddl("benchmark", "--suite", "operator", "--only", "*/forward")
    assert code == 0
    assert "operator/delta_update/fp32/B1T4D4V2: forward" in out
    assert "planted" in out
    assert "ratio: time ÷ reference" in out
    assert max(map(len, out.splitlines())) <= 80


def test_the_same_again_passes_the_gate(ddl, planted, saved):
    code, out, err = ddl("benchmark", "--suite", "operator", "--baseline", saved)
    assert (code, err) == (0, "")
    assert "No regression" in out


@pytest.mark.parametrize("gate", ["time", "ratio", "time,ratio,memory"])
def test_a_planted_slowdown_exits_1_and_is_named(gate, ddl, planted, saved):
    planted.seconds = 1.5
    code, out, err = ddl(
        "benchmark", "--suite", "operator", "--baseline", saved, "--gate", gate, "--save", "after.json"
    )
    assert code == 1
    assert "Worse than the baseline" in out
    assert err.startswith("ddl: error: worse than the baseline: operator/delta_update/planted/fp32/B1T4D4V2/forward")
    assert "(+50%)" in err
    assert err.count("\n") == 1
    assert "1 s → 1.5 s" in err or "1.000 → 1.500" in err
    assert (saved.parent / "after.json").exists()
    assert ddl("benchmark", "--suite", "operator", "--baseline", saved, "--tolerance", "0.6")[0] == 0


def test_a_planted_wrong_result_exits_1_is_named_and_keeps_the_rows_that_are_right(ddl, planted, saved):
    planted.error = 1e-2
    code, out, err = ddl("benchmark", "--suite", "operator", "--baseline", saved, "--save", "after.json")
    assert code == 1
    assert err.startswith("ddl: error: operator/delta_update/planted/fp32/B1T4D4V2: wrong: the output is off by ")
    assert "reference" in out
    after = json.loads((saved.parent / "after.json").read_text())
    assert [row["name"].split("/")[2] for row in after["rows"]] == ["reference"] * 2
    assert [(one["name"].split("/")[2], one["kind"]) for one in after["unmeasured"]] == [("planted", "wrong")]


def test_a_row_that_disappeared_exits_1_and_is_named(ddl, planted, saved, monkeypatch):
    monkeypatch.setattr(update, "BACKENDS", update.BACKENDS[:1])
    code, out, err = ddl("benchmark", "--suite", "operator", "--baseline", saved)
    assert code == 1
    assert f"{ROW}: no longer there; and 1 more rows" in err
    assert "Not compared" in out
    assert ddl("benchmark", "--suite", "operator", "--baseline", saved, "--only", "*/reference/*")[0] == 0


def test_another_machines_baseline_is_refused_unless_it_is_wanted(ddl, planted, saved):
    content = saved.read_text().replace('"processor": "', '"processor": "another ')
    saved.write_text(content)
    code, out, err = ddl("benchmark", "--suite", "operator", "--baseline", saved)
    assert (code, out) == (2, "")
    assert "has processor another " in err
    assert ddl("benchmark", "--suite", "operator", "--baseline", saved, "--any-device")[0] == 0


def test_a_row_measured_under_load_passes_no_gate(ddl, planted, saved, monkeypatch):
    class Busy(type(BLIND)):
        def wait_for_quiet(self):
            return "a planted load"

        def problem_since(self, before):
            return "a planted load"

    make = partial(runner.Runner, meter=Busy(stat=BLIND.stat))
    monkeypatch.setattr(runner, "Runner", make)
    code, out, err = ddl("benchmark", "--suite", "operator", "--baseline", saved, "--allow-load")
    assert code == 1
    assert "planted *" in out
    assert "measured under load now" in err
    code, out, err = ddl("benchmark", "--suite", "operator", "--save", "nothing.json")
    assert code == 1
    assert "nothing was measured: a planted load" in err
    assert not (saved.parent / "nothing.json").exists()
    assert ROW in out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--suite", "oprator"], 2, "--suite: unknown 'oprator' (did you mean 'operator'?)"),
        (["--gate", "speed"], 2, "--gate: unknown 'speed'; there are time, ratio, memory"),
        (["--rounds", "1"], 2, "--rounds must be from 2 to 10000, got 1"),
        (["--threads", "0"], 2, "--threads must be from 1 to 1024, got 0"),
        (["--tolerance", "nan"], 2, "--tolerance must be above 0 and at most 10, got nan"),
        (["--tolerance", "0"], 2, "--tolerance must be above 0"),
        (["--precision", "fp8"], 2, "--precision: invalid choice"),
        (["--device", "gpu"], 2, "unknown device 'gpu'"),
        (["--save", "no/such/folder/b.json"], 2, "there is no folder no/such/folder"),
        (["--save", "b.json", "--baseline", "./b.json"], 2, "name the same file"),
        (["--baseline", "missing.json"], 3, "there is no benchmark missing.json"),
        (["--baseline", "damaged.json"], 3, "damaged.json: "),
        (["--only", "nothing/*"], 2, "--only 'nothing/*' matches no row"),
        (["--quik"], 2, "(did you mean '--quick'?)"),
    ],
    ids=str,
)
def test_bad_usage_is_one_line(arguments, code, says, ddl, planted, tmp_path):
    (tmp_path / "damaged.json").write_text('{"format_version": 1')
    found, out, err = ddl("benchmark", "--suite", "operator", *arguments)
    assert (found, out) == (code, "")
    assert says in err
    assert err.startswith("ddl: error: ")
    assert err.count("\n") == 1


def test_real_rows_on_the_real_clock(ddl, monkeypatch):
    monkeypatch.setattr(runner, "Runner", partial(runner.Runner, meter=BLIND))
    monkeypatch.setattr(ceilings, "_GEMM_SIZES", {"cpu": (64,)})
    monkeypatch.setattr(ceilings, "_STREAM_BYTES", {"cpu": 1 << 16})
    arguments = [
        "--suite",
        "normalization,compressor",
        "--only",
        "*/fp32/*/forward_backward",
        "--quick",
        "--allow-load",
    ]
    code, out, err = ddl("benchmark", *arguments, "--rounds", "2", "--save", "b.json")
    assert code == 0, err
    assert all(word in out for word in ("rms_norm", "token_conv", "GB/s", "the machine in fp32: gemm", "other load: "))


def test_bad_usage_loads_no_torch():
    run = "from deep_delta.cli.main import main; main(['benchmark', '--suite', 'none'])"
    program = f"import sys; {run}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
    assert "unknown 'none'" in done.stderr
