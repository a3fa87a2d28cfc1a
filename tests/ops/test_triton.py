"""Triton kernels without a GPU: their numbers under the interpreter, their resources from compiling.

The interpreter has to be asked for before Triton is first imported and then holds for the whole process, so the cases
of triton_cases.py run in one of their own. With a GPU the same cases run on it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deep_delta.ops import device_kernels
from deep_delta.ops.device_kernels import interpreted, unavailable

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
needs_the_compiler = pytest.mark.skipif(interpreted(), reason="TRITON_INTERPRET replaces the compiler")
DEVICES = [
    "interpreter",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")),
]


def run_cases(device: str, marker: str, names: str = "") -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment.pop("TRITON_INTERPRET", None)
    if device == "interpreter":
        environment |= {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    cases = Path(__file__).with_name("triton_cases.py")
    command = [
        sys.executable,
        "-m",
        "pytest",
        str(cases),
        "-m",
        marker,
        "-k",
        names,
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
    ]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@pytest.mark.parametrize("device", DEVICES)
def test_the_kernels_match_the_definitions(device: str) -> None:
    run_cases(device, "not slow")


@pytest.mark.slow
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("names", ["update", "step"])
def test_the_kernels_match_the_definitions_in_many_shapes(device: str, names: str) -> None:
    run_cases(device, "slow", names)


@pytest.fixture
def compiler_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))


def check_resources(dtype: torch.dtype, width: int, channels: int) -> None:
    from tests.ops import triton_resources as resources  # imports Triton, which may not be there

    launches = resources.delta_update_launches(dtype, width, channels)
    if channels == 1:
        launches += resources.stream_step_launches(dtype, width, channels, 0)
        launches += resources.stream_step_launches(dtype, width, channels, 0, "additive")
    else:
        launches += resources.stream_step_launches(dtype, width, channels, 1)
        launches += resources.stream_step_launches(dtype, width, channels, 4)
    for launch in launches:
        found = resources.measure(launch)
        version = importlib.metadata.version("triton")
        assert found.stack == 0, f"{launch.kernel.__name__} spills with Triton {version}: {found}"


@needs_the_compiler
@pytest.mark.usefixtures("compiler_cache")
@pytest.mark.parametrize("channels", [1, 4])
def test_nothing_spills_on_cuda_90(channels: int) -> None:
    check_resources(torch.bfloat16, 768, channels)


@pytest.mark.slow
@needs_the_compiler
@pytest.mark.usefixtures("compiler_cache")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("width", [256, 768, 1024])
@pytest.mark.parametrize("channels", [1, 4])
def test_nothing_spills_at_any_usual_size(channels: int, width: int, dtype: torch.dtype) -> None:
    check_resources(dtype, width, channels)


@pytest.mark.slow
@needs_the_compiler
@pytest.mark.usefixtures("compiler_cache")
@pytest.mark.parametrize(("width", "channels"), [(8192, 4), (16384, 1), (4096, 8)])
def test_an_update_too_wide_for_registers_spills_none(width: int, channels: int) -> None:
    from tests.ops import triton_resources as resources

    for launch in resources.delta_update_launches(torch.bfloat16, width, channels):
        assert resources.measure(launch).stack == 0, launch.kernel.__name__


@pytest.mark.skipif(interpreted(), reason="the interpreter takes CPU tensors")
def test_the_reason_why_triton_cannot_run_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "runs on CUDA" in (unavailable(torch.zeros(2, 2), 2) or "")
    monkeypatch.setattr(device_kernels, "_HAVE_TRITON", False)
    assert unavailable(torch.zeros(2, 2), 2) == "triton is not installed"
