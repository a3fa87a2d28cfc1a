"""Compiling the C kernels at first use, and what happens where that cannot be done."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from deep_delta.errors import BackendError
from deep_delta.ops import native
from deep_delta.ops.stream_step import explain_stream_step, stream_step

STATE = torch.zeros(1, 2, 1, 4)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache, and nothing loaded yet; returns the cache's folder."""
    monkeypatch.setenv("DEEP_DELTA_CACHE", str(tmp_path))
    monkeypatch.setattr(native, "_library", native.functools.cache(native._library.__wrapped__))
    return tmp_path / "native"


def test_without_a_compiler_everything_has_another_backend(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.delenv("CC", raising=False)
    assert "no C compiler" in str(native.unavailable(STATE))
    assert explain_stream_step(STATE).backend.name == "eager"
    with pytest.raises(BackendError, match=r"'native' of stream_step cannot run: there is no C compiler"):
        stream_step(STATE, STATE[:, :, 0], None, None, None, torch.ones(4), backend="native")
    assert not machine.exists()


def test_a_compiler_that_fails_is_quoted(machine: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    broken = tmp_path / "cc"
    broken.write_text('#!/bin/sh\n[ "$1" = --version ] && echo 1.0 && exit 0\necho "no such thing" >&2\nexit 1\n')
    broken.chmod(0o755)
    monkeypatch.setenv("CC", str(broken))
    assert str(native.unavailable(STATE)).endswith("failed: no such thing")


def test_a_cache_that_cannot_be_written_is_a_reason(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if native._library.__wrapped__ is None or native.unavailable(STATE):
        pytest.skip("no compiler")
    monkeypatch.setattr(native, "_library", native.functools.cache(native._library.__wrapped__))
    monkeypatch.setenv("DEEP_DELTA_CACHE", "/dev/null")
    assert "could not be built" in str(native.unavailable(STATE))


def test_a_library_is_built_once_and_a_damaged_one_again(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := native.unavailable(STATE):
        pytest.skip(reason)
    (built,) = machine.glob("*.so")
    whole, made = built.read_bytes(), built.stat().st_mtime_ns
    assert native._build(["cc"], True) == built
    assert built.stat().st_mtime_ns == made
    other = Path(built.parent, "other")
    other.write_bytes(whole[: len(whole) // 2])
    other.replace(built)  # a new file: the one in use stays as it is
    assert native._build(["cc"], True) == built
    assert built.read_bytes() == whole
    assert sorted(file.suffix for file in machine.iterdir()) == [".sha256", ".so"]


def test_only_some_tensors_have_kernels() -> None:
    assert "fp32 or bf16" in str(native.unavailable(torch.zeros(1, dtype=torch.float64)))
    assert "on meta" in str(native.unavailable(torch.zeros(1, device="meta")))


def test_one_openmp_runtime_in_the_process() -> None:
    """A second one would fight the first for the cores."""
    maps = Path("/proc/self/maps")
    if not maps.exists() or native.unavailable(STATE):
        pytest.skip("not Linux, or no compiler")
    program = (
        "import torch; from deep_delta.ops import native; assert native.unavailable(torch.zeros(1)) is None;"
        "print({line.split()[-1] for line in open('/proc/self/maps') if 'omp' in line.rsplit('/', 1)[-1]})"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=dict(os.environ), timeout=120
    )
    assert found.stdout.count(".so") == 1, found.stdout
